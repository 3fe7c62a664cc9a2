//! Power cuts: ext4 on a loop device, shut down by its ioctl without flushing anything, and mounted
//! again.

use std::{sync::Mutex, thread, time::Duration};

use super::{
    figure, long,
    plight::Plight,
    rounds,
    shelf::{check_blobs, images, pull},
};
use crate::{hub::Hub, lanyard::Lanyard, pull::config, wire::eventually};

/// Long form only. After each cut the folder opens, each blob has the digest that it is named
/// after, and everything can be pulled.
#[test]
fn a_power_cut_leaves_nothing_corrupt() {
    if !long() {
        return;
    }
    let hub = Hub::start();
    let mut lanyard = Lanyard::prepare(&config(&hub, "[cache]\nmin_free = \"0%\"\n"));
    let Some(plight) = Plight::ext4(&mut lanyard, 512 << 20) else { return };
    let Some(power) = plight.power() else { return };
    let folder = plight.inside();
    lanyard.restart();
    let (count, mut lost, mut kept) = (rounds(0, 60), 0, 0);
    let whole = Mutex::new(Vec::new());
    for round in 0..count {
        let all = images(&hub, &format!("cut{round}-"), 8, &[5000, 700 << 10]);
        let port = lanyard.port();
        thread::scope(|scope| {
            for half in all.chunks(4) {
                let whole = &whole;
                scope.spawn(move || {
                    for image in half {
                        if pull(port, image).is_ok() {
                            whole.lock().unwrap().push(image.clone());
                        }
                    }
                });
            }
            // The random moment of the cut is the point of this test.
            thread::sleep(Duration::from_millis((round as u64 * 37) % 400));
            power.cut(&plight);
        });
        lanyard.kill9();
        power.back(&plight);
        lanyard.restart();
        let blobs = check_blobs(&plight.data());
        kept += blobs;
        hub.go_down();
        let pulled = std::mem::take(&mut *whole.lock().unwrap());
        lost += pulled.iter().filter(|image| pull(lanyard.port(), image).is_err()).count();
        hub.come_back();
        eventually("upstream is asked again", || pull(lanyard.port(), &all[0]).is_ok());
        lanyard.stop();
        plight.must(&format!("rm -rf {folder}/blobs/sha256/0* {folder}/blobs/sha256/1*"));
        lanyard.restart();
    }
    figure(&format!(
        "{count} cuts: {kept} blobs looked at, all right; {lost} images pulled in the last moment are fetched anew"
    ));
}
