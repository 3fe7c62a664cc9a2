//! The command line. `manage.rs` has `gc` and `status`, `pin.rs` the commands about pins, and most
//! others have a file of their own. [`run`] is called by `main` alone.
//!
//! It promises: the answer goes to standard output, a failure to standard error, and the exit code
//! is 0, or that of `serve`, or one of these:
//!
//! | code | when |
//! |---|---|
//! | 1 | it failed; `check`: damage is left; `healthcheck`: not ready; `ls --digest`: unknown |
//! | 1 | `lock --check`: a tag has moved, or cannot be compared |
//! | 64 | the command or the configuration has to be changed |
//! | 69 | no lanyard runs on the data folder |
//! | 74 | the answer cannot be written |
//! | 75 | not now: the data folder is in use, or takes no change; lanyard is offline |
//! | 75 | `pull`: no room, offline, no answer of upstream, or lanyard stops |
//! | 130 | Ctrl-C ended `pull` |

mod cache;
mod check;
mod config_args;
mod exit;
mod healthcheck;
mod image_list;
mod images;
mod lock;
mod ls;
mod ls_digest;
mod ls_table;
mod manage;
mod pin;
mod pull;
mod reach;
mod remove;
pub mod setup;
mod socket;
mod user;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Loaded;
use config_args::{ConfigArgs, told};
use exit::{fail, print, tell};
use setup::{Client, Server};
use user::User;

/// A pull-through caching container registry for a LAN.
///
/// Without a command it runs the registry: a mirror of Docker Hub on port 5000 that keeps
/// everything in ./data.
#[derive(Parser, Debug)]
#[command(name = "lanyard", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the registry; the same as no command at all
    Serve(ConfigArgs),
    /// Look at the configuration without running the registry
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show what a running lanyard keeps and does
    Status(manage::StatusOf),
    /// Fetch images through a running lanyard, so that they are here before clients ask
    ///
    /// Downloads are shared with clients that ask for the same at that moment. Exits with 0 when
    /// all images are whole, with 1 when some failed, with 75 when that is for want of room or of
    /// an upstream, so that trying again may help, and with 130 after Ctrl-C.
    Pull(pull::Pull),
    /// Write a lock file of what clients get for the tags of pulled images
    ///
    /// A rule of `[[tags]]` freezes tags at such a file. It is sorted, so that it is fit for a
    /// repository of sources. No upstream is asked: a tag names what lanyard last saw it name, or
    /// what a rule freezes it at.
    Lock(lock::Lock),
    /// List images: what is here of each, why, when it was used, and what it saved
    ///
    /// Without a pattern it lists all. `nginx:1.27` means that image; `docker.io/library/*`,
    /// `ghcr.io/**` and `**:v*` are patterns over full names. PLATFORMS are those that were
    /// fetched. HERE counts a layer that several images share in each; the last line counts it
    /// once. OF says whether all that these platforms need is here (whole), some of it (partial)
    /// or nothing but manifests (gone); a line below, and `--tree`, say what is missing. SAVED is
    /// what clients were given from here instead of from the internet.
    Ls(ls::Ls),
    /// Remove pushed content that is no longer needed
    ///
    /// A running lanyard does the same by itself every ten minutes. It removes links of hosted
    /// repositories to blobs that none of their manifests needs, blobs that no repository holds,
    /// and uploads that were abandoned for a day. It never removes a manifest, tagged or not, nor
    /// content that was pulled from upstream, nor, without `--now`, content that was uploaded,
    /// mounted or asked for within `hosted.gc_grace` (an hour by default).
    Gc(manage::Gc),
    /// Look after the cache of a running lanyard
    Cache {
        #[command(subcommand)]
        command: cache::Cache,
    },
    /// Keep images on disk, whoever asks for them or not
    ///
    /// The pin of a tag follows the tag: what it names is kept. The pin of a digest is fixed. An
    /// image with a tag and a digest gets both, and so does a tag that a rule of `[[tags]]`
    /// freezes: the digest stays pinned when the rule goes. It need not be here yet.
    Pin(pin::Pin),
    /// Let images go again that were pinned
    Unpin(pin::Unpin),
    /// List the pins, and the patterns of `cache.keep`
    ///
    /// `lanyard ls --why pinned` lists the images that they keep, with what is here of each.
    Pins(pin::ListPins),
    /// Forget images of upstreams, and free what no other image needs
    ///
    /// A tag goes, its manifest if no other tag names it, and the content that no repository needs
    /// any more. Pushed images are refused. Without --force so are images that are pinned or that
    /// `cache.keep` names, and tags that a rule of `[[tags]]` freezes or keeps digests of. Exits
    /// with 0, with 1 if an image was not removed, with 75 where nothing may be removed: offline,
    /// or on a read-only disk.
    Rm(remove::Remove),
    /// Verify everything in the data folder; lanyard must not be running on it
    ///
    /// Reads every blob and compares it with its digest. Reads every tag and link, and looks for
    /// the content that they need. Exits with 0 when all is well, with 1 when something is damaged,
    /// with 75 when a running lanyard has the folder.
    Check(check::Check),
    /// Ask the running lanyard whether it is ready for clients
    ///
    /// Sends one request to the address of the configuration, for a container's health check:
    /// 0.0.0.0 is asked at loopback, and over TLS only the certificate of `tls.cert` is taken.
    /// Exits with 0 when lanyard is ready, else with 1.
    Healthcheck(healthcheck::Healthcheck),
    /// Manage the file of users
    User {
        #[command(subcommand)]
        command: User,
    },
    /// Print the configuration that points a client at lanyard
    Setup {
        /// The client whose configuration to print
        client: Client,
        /// Where the client reaches lanyard, like `https://registry.lan`
        #[arg(long, value_name = "URL", default_value = Server::DEFAULT)]
        server: String,
    },
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Report every problem, each with its source
    Check {
        /// Ask the object store for everything that lanyard needs of it, too
        #[arg(long)]
        reach: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print every value in force and its source, without secrets
    Show(ConfigArgs),
}

/// Runs the command of `arguments`, the first of which is the program's name. `serve` runs the
/// registry, and is called at most once.
pub fn run(arguments: impl IntoIterator<Item = OsString>, serve: impl FnOnce(Loaded) -> ExitCode) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(answer) if answer.use_stderr() => return fail(&answer.render().to_string()),
        Err(answer) => return print(&answer.render().to_string()),
    };
    match arguments.command.unwrap_or(Command::Serve(arguments.config)) {
        Command::Serve(config) => match config.load_with_files() {
            Ok(loaded) => serve(loaded),
            Err(problems) => fail(&told(&problems)),
        },
        Command::Config { command: ConfigCommand::Check { reach, config } } => match config.load_with_files() {
            Ok(loaded) => {
                for word in loaded.advice() {
                    tell(&format!("warning: {word}\n"));
                }
                let good = print("The configuration is good.\n");
                if reach { reach::run(&loaded.config) } else { good }
            }
            Err(problems) => fail(&told(&problems)),
        },
        Command::Config { command: ConfigCommand::Show(config) } => match config.load() {
            Ok(loaded) => print(&loaded.show()),
            Err(problems) => fail(&told(&problems)),
        },
        Command::Status(status) => status.run(),
        Command::Lock(lock) => lock.run(),
        Command::Ls(ls) => ls.run(),
        Command::Gc(gc) => gc.run(),
        Command::Cache { command } => command.run(),
        Command::Pull(pull) => pull.run(),
        Command::Pin(pin) => pin.run(),
        Command::Unpin(unpin) => unpin.run(),
        Command::Pins(pins) => pins.run(),
        Command::Rm(remove) => remove.run(),
        Command::Check(check) => check.run(),
        Command::Healthcheck(healthcheck) => healthcheck.run(),
        Command::User { command } => command.run(),
        Command::Setup { client, server } => match server.parse::<Server>() {
            Ok(server) => {
                let setup = client.setup(&server);
                tell(&setup.notes);
                print(&setup.text)
            }
            Err(error) => fail(&format!("lanyard: --server: {error}\n")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        for line in [vec!["lanyard", "--listen", "127.0.0.1:0"], vec!["lanyard", "serve", "--listen", "127.0.0.1:0"]] {
            let mut listen = None;
            run(line.into_iter().map(OsString::from), |loaded| {
                listen = Some(loaded.config.listen);
                ExitCode::SUCCESS
            });
            assert_eq!(listen, Some("127.0.0.1:0".parse().unwrap()));
        }
    }
}
