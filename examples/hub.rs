//! Docker Hub on your own machine, without internet, to try lanyard against:
//!
//! ```text
//! cargo run --example hub -- [--port 5555] [--rate BYTES_PER_SECOND]
//! ```
//!
//! It serves a few images that engines can really pull. It prints what can be done with it, and
//! then one line for each request, until Ctrl-C.

#[path = "../tests/hub/mod.rs"]
mod hub;

use clap::Parser;
use hub::{Entry, Hub};

#[derive(Parser)]
#[command(about = "A stand-in for Docker Hub, to try lanyard without internet")]
struct Arguments {
    /// The port of the registry.
    #[arg(long, default_value_t = 5555)]
    port: u16,
    /// Bytes per second for all downloads together; 0 is as fast as possible.
    #[arg(long, default_value_t = 0)]
    rate: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let builder = Hub::builder().port(arguments.port).bytes_per_second(arguments.rate).rate_limit(100, 100).print();
    let hub = builder.try_start().unwrap_or_else(|error| {
        eprintln!("Cannot listen at port {}: {error}. Choose another with --port.", arguments.port);
        std::process::exit(1);
    });
    publish(&hub);
    println!("A stand-in for Docker Hub listens at {} (its CDN at {}).\n", hub.url(), hub.cdn_url());
    println!("Images:");
    for name in hub.listing() {
        println!("  {name}");
    }
    println!("\nLet lanyard pull from it, with this as lanyard.toml:\n");
    println!("  [[upstream]]\n  name = \"docker.io\"\n  url = \"{}\"\n", hub.url());
    println!("  cargo run -- --config lanyard.toml\n");
    println!("then pull through lanyard, which is at port 5000:\n");
    println!("  skopeo inspect --tls-verify=false docker://127.0.0.1:5000/library/busybox:latest");
    println!("  podman pull --tls-verify=false 127.0.0.1:5000/docker.io/library/hello:latest");
    println!("  dockerd --registry-mirror=http://127.0.0.1:5000    and    docker pull busybox\n");
    println!(
        "The rate limit is 100 manifests in six hours, as at Docker Hub. Each request is a line below; stop with Ctrl-C."
    );
    loop {
        std::thread::park();
    }
}

/// The images. busybox is a real one if this machine has a static busybox, and plain files
/// otherwise.
fn publish(hub: &Hub) {
    let mut files =
        vec![Entry::file("etc/motd", "Pulled through lanyard.\n"), Entry::file("etc/hostname", "stand-in\n")];
    if let Ok(program) = std::fs::read("/bin/busybox") {
        for name in ["busybox", "sh", "cat", "ls"] {
            files.push(Entry::program(&format!("bin/{name}"), program.clone()));
        }
    }
    let platforms = ["linux/amd64", "linux/arm64"];
    hub.image("library/busybox", "latest").files(files).real_layer(300_000).platforms(&platforms).publish();
    hub.image("library/hello", "latest").real_layer(1_000).publish();
    hub.image("library/hello", "oci").real_layer(1_000).oci().platforms(&platforms).publish();
    hub.image("library/large", "latest").real_layer(32 << 20).real_layer(32 << 20).publish();
}
