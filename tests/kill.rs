//! Goal: the promises hold through SIGKILL at any moment. Method: the real server binary on a real
//! disk; producers, cancellers and subscribers write down what was acknowledged to them; the server
//! is killed at random moments, started again, and what it delivers is held against the record.
//! The same loop, for as long as one likes and with more than kills, is the program `torture`.
//!
//! A kill leaves the page cache alone, so this is about crashes of the process; power loss is the
//! matter of the crash sweep, on the simulated disk, and of `torture --volatile`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use postdate::sim::torture::{self, Cruelty, Medium, Options, Until};

#[test]
fn the_promises_hold_through_twenty_kills() {
    hold_through_twenty_kills(Medium::Plain);
}

/// The same, and what was not synced is gone with each kill.
#[test]
fn the_promises_hold_through_twenty_losses_of_power() {
    hold_through_twenty_kills(Medium::Volatile { program: env!("CARGO_BIN_EXE_torture").into() });
}

fn hold_through_twenty_kills(medium: Medium) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        server: env!("CARGO_BIN_EXE_postdate").into(),
        home: dir.path().into(),
        seed: 20_260_101,
        until: Until::Kills(20),
        cruelty: Cruelty::Kills,
        medium,
        clock: None,
        talk: false,
    };
    let report = torture::run(&options).unwrap();
    println!("{report}");
    assert_eq!(report.counts.violations, 0, "{report}");
    let counts = report.counts;
    let enough = counts.accepted > 1_000 && counts.cancelled > 20 && counts.rescheduled > 20;
    assert!(enough && counts.purged > 20, "too little happened to show anything: {report}");
}
