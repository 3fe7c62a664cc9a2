//! The same campaign for pushed content. Whatever happens to the process, the machine and the disk:
//! acknowledged content is kept, deleted content stays deleted, and a change without an answer is
//! either done or not.
//!
//! Clients go through a scene of pushes, mounts, tags, deletions and collections ([`client`]), and
//! keep a ledger of the answers ([`ledger`]). After each fault every line of the ledger is read.

mod client;
mod full;
mod kill;
mod ledger;
mod ntfs;
mod power;

use std::sync::Arc;

use lanyard::{
    app::App,
    config::{Config, Flags, Inputs},
};

use crate::lanyard::{CONFIG, Lanyard};

/// No upstream is asked, and the free space of this machine's disk does not matter.
const HOSTED: &str = "mode = \"offline\"\n[cache]\nmin_free = \"0%\"\n";

/// A lanyard, not started yet, whose collections have no grace: [`serve_without_a_grace`] runs it.
fn without_a_grace() -> Lanyard {
    let mut lanyard = Lanyard::prepare(HOSTED);
    lanyard.as_test("faults::hosted::serve_without_a_grace");
    lanyard
}

#[test]
#[ignore = "run, and killed, by the tests of this module"]
fn serve_without_a_grace() {
    let file = Some(std::env::var_os(CONFIG).unwrap().into());
    let loaded = Config::load(&Inputs { file, environment: Vec::new(), flags: Flags::default() }).unwrap();
    let app = App::start(&loaded.config).unwrap();
    let storage = Arc::clone(app.storage());
    storage.set_grace(std::time::Duration::ZERO);
    // The test harness has not ended its own line.
    println!("\nlistening on http://{}", app.listening().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async move { stopped.await.map(|()| std::future::pending()).map_err(std::io::Error::other) };
    app.run(stopped).unwrap();
    drop(stop);
}
