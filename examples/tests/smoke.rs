//! Every example of the actors library runs to its end and says what it should.
#![expect(clippy::expect_used, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;

/// Cargo builds a package's examples before its tests, beside them.
fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a path");
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

fn run(name: &str, expected: &[&str]) {
    let output = Command::new(example(name))
        .output()
        .expect("built by cargo test, though not by --test smoke");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name} failed: {said}");
    for text in expected {
        assert!(said.contains(text), "{name} did not say {text:?}: {said}");
    }
}

#[test]
fn a_supervised_counter_runs() {
    run("supervised_counter", &["says 42", "failed: division by zero", "it says 0", "1 restarts"]);
}

#[test]
fn a_crashing_service_runs_under_each_executor() {
    run("crashing_service", &["panicked: told to", "was ended by signal 6", "AsyncProcess"]);
}

#[test]
fn an_application_in_toml_runs_and_stops_in_order() {
    run("host_from_toml", &["station (running)", "uplink", "tick", "was shut down"]);
}

#[test]
fn a_pool_with_affinity_runs() {
    run("pool", &["opened 3 times", "worker of the key is busy", "second attempt", "worker-2"]);
}

#[test]
fn a_program_of_three_nodes_outlives_one_of_them() {
    run(
        "three_nodes",
        &["a is up", "b is up", "c is up", "only 70 left", "c is killed", "all stopped"],
    );
}
