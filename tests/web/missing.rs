//! A machine without browsers: all else runs, and what is missing is named.

use std::net::TcpListener;

use crate::support::{World, text};

#[test]
fn without_browsers_up_runs_all_else_and_says_why() {
    let world = World::new();
    let browsers = ["chromium", "firefox", "edge"];
    let sections = browsers.map(|name| format!("[browsers.pool.{name}]\nbinary = \"/nonexistent/browser\"\n"));
    world.set("AUGUR_SETTINGS", &world.write("no-browsers.toml", &sections.concat()));
    world.set("AUGUR_ORT_WEB_DIRECTORY", &crate::ort_web_directory());
    let detected = world.augur(&["browsers", "detect"]).expect(1);
    assert!(detected.contains("/nonexistent/browser"), "{detected}");
    assert!(browsers.iter().all(|name| detected.contains(name)), "{detected}");

    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    world.set("AUGUR_AGGREGATOR__LISTEN", &free.to_string());
    world.set("AUGUR_AGGREGATOR_URL", &format!("http://{free}"));
    let tests = world.write("tests.yaml", "version: 1\nname: test\ntests:\n  - {name: a, profile: noop}\n");
    let up = world.augur(&["up", "--browsers", "2", "--suite", &tests, "--once"]).expect(0);
    assert!(up.contains("no browser pool, because ") && up.contains("no browser of this machine runs models"), "{up}");
    assert!(up.contains("1 of 1 jobs passed"), "{up}");
}

#[test]
fn without_browsers_a_doctor_says_what_to_install() {
    let world = World::new();
    let tools = world.path("tools");
    std::fs::create_dir(&tools).expect("a directory");
    std::os::unix::fs::symlink("/usr/bin/timeout", tools.join("timeout")).expect("linked");
    world.set("PATH", &tools.display().to_string());
    let findings = world.augur(&["doctor", "--format", "json"]).json();
    let findings = findings.as_array().expect("a list");
    for subject in ["Chromium", "Chromium's driver", "Firefox", "Firefox's driver"] {
        let finding = findings.iter().find(|finding| finding["subject"] == subject).expect(subject);
        assert_eq!(text(finding, "state"), "missing", "{finding:#}");
        assert!(text(finding, "remedy").contains("`make setup`"), "{finding:#}");
    }
}
