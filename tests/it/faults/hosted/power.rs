//! Power cuts under pushes: ext4 on a loop device, shut down by its ioctl without flushing
//! anything, and mounted again.

use std::{thread, time::Duration};

use super::{HOSTED, client::Client};
use crate::{
    faults::{figure, plight::Plight, rounds, shelf::check_blobs},
    lanyard::Lanyard,
};

/// Clients that push, each to repositories of its own.
const CLIENTS: usize = 4;

/// After each cut it starts, all acknowledged content is there, and each blob has the digest that
/// it is named after.
#[test]
fn a_power_cut_loses_no_push() {
    let mut lanyard = Lanyard::prepare(HOSTED);
    let Some(plight) = Plight::ext4(&mut lanyard, 768 << 20) else { return };
    let Some(power) = plight.power() else { return };
    lanyard.restart();
    let (count, mut acknowledged, mut read, mut blobs) = (rounds(3, 100), 0, 0, 0);
    for round in 0..count {
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|n| Client::new(lanyard.port(), &format!("r{round}c{n}"), None)).collect();
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || (0..).take_while(|n| client.scene(round * 100 + n).is_ok()).count());
            }
            // The random moment of the cut is the point of this test.
            thread::sleep(Duration::from_millis(20 + (round as u64 * 97) % 900));
            power.cut(&plight);
        });
        lanyard.kill9();
        power.back(&plight);
        lanyard.restart();
        for client in &mut clients {
            client.forgetful = true;
            read += client.audit(&format!("cut {round}"));
            acknowledged += client.acknowledged;
        }
        blobs += check_blobs(&plight.data());
        lanyard.kill9();
        plight.must(&format!("rm -rf {0}/blobs {0}/repos {0}/uploads", plight.inside()));
        lanyard.restart();
    }
    assert!(acknowledged > 10 * count, "hardly anything was pushed: {acknowledged}");
    assert!(!lanyard.logs().contains("panicked at"), "a panic");
    figure(&format!("{count} cuts, {acknowledged} acknowledged, {read} contents read, {blobs} blobs right"));
}
