//! The account of savings: right to the byte against what clients got and what the stand-in sent,
//! over a restart and a kill.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use crate::{
    admin,
    cli::stdout,
    hub::{Fault, Gate, Hub, On, Record},
    lanyard::Lanyard,
    pull::mirror,
    push::Pusher,
    wire::{Connection, ask, blob, eventually, get, head, manifest},
};

const REPO: &str = "library/busybox";

/// What the clients of a test got.
#[derive(Default)]
struct Tally {
    sent: BTreeMap<String, u64>,
    pulls: u64,
}

impl Tally {
    /// One request, whose answer counts if it gives content.
    fn ask(&mut self, server: &Lanyard, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let answer = ask(server.port(), method, path, headers);
        if matches!(answer.status, 200 | 206) {
            self.got(answer.outcome(), answer.body.len());
        }
        self.pulls += u64::from(answer.status == 200 && method == "GET" && path.contains("/manifests/"));
        answer.status
    }

    fn got(&mut self, outcome: &str, bytes: usize) {
        if bytes > 0 {
            *self.sent.entry(outcome.to_owned()).or_default() += bytes as u64;
        }
    }

    fn sum(&self) -> u64 {
        self.sent.values().sum()
    }
}

/// What the stand-in sent, without the bodies of its redirects: nobody reads these.
fn body_bytes(hub: &Hub) -> u64 {
    let is_read = |record: &Record| !(300..400).contains(&record.status);
    hub.requests().iter().filter(|record| is_read(record)).map(|record| record.bytes_sent).sum()
}

fn savings(server: &Lanyard) -> Value {
    admin::ask(server, "GET", "/api/v1/savings").json()
}

/// The bytes of Docker Hub's names by outcome, over all days.
fn by_outcome(savings: &Value) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for day in savings["upstreams"][0]["days"].as_array().into_iter().flatten() {
        for (outcome, bytes) in day["sent"].as_object().unwrap() {
            *sums.entry(outcome.clone()).or_default() += bytes.as_u64().unwrap();
        }
    }
    sums
}

/// Waits until every answer of the tally is counted, and compares the rest.
fn agrees(server: &Lanyard, tally: &Tally, received: u64) -> Value {
    eventually("every answer is counted", || by_outcome(&savings(server)) == tally.sent);
    let account = savings(server);
    assert_eq!((&account["sent"], &account["pulls"]), (&tally.sum().into(), &tally.pulls.into()), "{account}");
    assert_eq!((&account["received"], &account["upstreams"][0]["name"]), (&received.into(), &"docker.io".into()));
    assert_eq!(account["saved"], json!(tally.sum() as i64 - received as i64));
    account
}

#[test]
fn the_account_is_right_to_the_byte_over_a_restart_and_a_kill() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(100_000).layer(300_000).layer(70_000).publish();
    let mut server = mirror(&hub);
    let mut tally = Tally::default();
    let [first, second, third] = [0, 1, 2].map(|n| blob(REPO, image.layer(n)));

    for reference in ["latest", "latest", &image.digest] {
        assert_eq!(tally.ask(&server, "GET", &manifest(REPO, reference), &[]), 200);
        assert_eq!(tally.ask(&server, "HEAD", &manifest(REPO, reference), &[]), 200);
    }
    assert_eq!(tally.ask(&server, "GET", &first, &[]), 200);
    eventually("it is stored", || head(server.port(), &first).outcome() == "hit");
    for (headers, status) in [
        (&[][..], 200),
        (&[("Range", "bytes=10-19")], 206),
        (&[("Range", "bytes=0-0,50-99")], 206),
        (&[("Range", "bytes=200000-")], 416),
        (&[("If-None-Match", &format!("\"{}\"", image.layer(0)))], 304),
    ] {
        assert_eq!(tally.ask(&server, "GET", &first, headers), status, "{headers:?}");
    }
    assert_eq!(tally.ask(&server, "GET", &manifest(REPO, "missing"), &[]), 404);

    // Two clients of one download, and one that leaves in its middle.
    let gate = Gate::shut();
    hub.fault(On::blob(image.layer(1)), Fault::StallAt { bytes: 100_000, gate: gate.clone() });
    let mut clients = [(); 2].map(|()| Connection::open(server.port()));
    for client in &mut clients {
        client.request("GET", &second, &[]);
    }
    let heads = clients.each_mut().map(|client| client.head().unwrap());
    gate.open();
    for (client, (_, headers)) in clients.iter_mut().zip(&heads) {
        let outcome = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-lanyard-cache")).unwrap();
        tally.got(&outcome.1, client.read_body(300_000).len());
    }
    assert_eq!(tally.sent["joined"], 300_000);

    // What is pushed here saves nothing.
    let pusher = Pusher(server.port());
    pusher.image("team/app", "v1", &[7; 5000]);
    assert_eq!(get(server.port(), "/v2/team/app/manifests/v1").status, 200);

    let account = agrees(&server, &tally, body_bytes(&hub));
    let metrics = get(server.port(), "/metrics").text();
    for (outcome, bytes) in &tally.sent {
        let line =
            format!("lanyard_mirrored_sent_bytes_total{{upstream=\"docker.io\",outcome=\"{outcome}\"}} {bytes}\n");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    let line = format!("lanyard_mirrored_pulls_total{{upstream=\"docker.io\"}} {}\n", tally.pulls);
    assert!(metrics.contains(&line), "{line}\n{metrics}");
    let text = stdout(&admin::command(&server, &["status"]));
    assert!(text.contains("\nsaved         ") && text.contains(" since 20"), "{text}");

    server.restart();
    assert_eq!(agrees(&server, &tally, body_bytes(&hub))["since"], account["since"]);
    assert_eq!(tally.ask(&server, "GET", &third, &[]), 200);
    eventually("it is stored", || head(server.port(), &third).outcome() == "hit");
    agrees(&server, &tally, body_bytes(&hub));
    server.restart();

    // A kill costs what was counted since the last note, of both sides.
    let (noted, received) = (savings(&server), body_bytes(&hub));
    assert_eq!(ask(server.port(), "GET", &third, &[]).body.len(), 70_000);
    eventually("it is counted", || savings(&server)["sent"] != noted["sent"]);
    server.kill9();
    server.restart();
    assert_eq!(agrees(&server, &tally, received), noted);
}

/// A client that leaves costs what came for it, and was sent what it took.
#[test]
fn what_is_fetched_for_nobody_is_no_saving() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(8 << 20).publish();
    let server = mirror(&hub);
    let layer = blob(REPO, image.layer(0));
    let mut client = Connection::open(server.port());
    client.request("GET", &layer, &[]);
    assert_eq!(client.head().unwrap().0, 200);
    client.read_body(1000);
    drop(client);
    eventually("it is stored all the same", || head(server.port(), &layer).outcome() == "hit");
    eventually("both sides are counted", || {
        let account = savings(&server);
        account["received"] == body_bytes(&hub) && account["sent"].as_u64().is_some_and(|sent| sent >= 1000)
    });
    assert!(savings(&server)["saved"].as_i64().unwrap() <= 0);
}

#[test]
fn a_damaged_account_begins_anew_and_the_log_says_so() {
    let hub = Hub::start();
    let image = hub.image(REPO, "latest").layer(100_000).publish();
    let mut server = mirror(&hub);
    let layer = blob(REPO, image.layer(0));
    assert_eq!(get(server.port(), &layer).status, 200);
    eventually("it is counted", || savings(&server)["sent"] == 100_000);
    server.stop();
    let record = server.data_dir().join("savings");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.starts_with("{\"v\":1,\"since\":") && text.contains("\ncrc32 "), "{text}");
    fs::write(&record, text.replace("100000", "900000")).unwrap();
    server.restart();
    let account = savings(&server);
    assert_eq!((&account["sent"], &account["received"], &account["pulls"]), (&0.into(), &0.into(), &0.into()));
    let told = |line: &str| line.contains("a damaged record is treated as missing") && line.contains("savings");
    let times = || server.logs().lines().filter(|line| told(line)).count();
    eventually("it is told", || times() > 0);
    assert_eq!(times(), 1);

    assert_eq!(get(server.port(), &layer).status, 200);
    eventually("it is counted", || savings(&server)["sent"] == 100_000);
    server.restart();
    assert_eq!(savings(&server)["saved"], 100_000, "and is whole again");
}
