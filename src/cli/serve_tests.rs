use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Wrapper {
    #[command(flatten)]
    serve: Serve,
}

fn in_force(arguments: &[&str]) -> Result<Config, Failure> {
    let all = [&["test"], arguments].concat();
    let environment = |name: &str| (name == "POSTDATE_LOG").then(|| "warn".to_owned());
    Wrapper::try_parse_from(all).unwrap().serve.settings_in_force(environment)
}

#[test]
fn flags_and_environment_reach_the_settings() {
    let config = in_force(&[
        "--data-dir",
        "/d",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "off",
        "--stomp",
        "off",
        "--set",
        "max_failures=3",
        "--set",
        "listen=127.0.0.1:1",
    ])
    .unwrap();
    assert_eq!(config.data_dir, Path::new("/d"));
    assert_eq!(config.listen, "127.0.0.1:0", "the flag of its own wins over --set");
    assert_eq!((config.http_listen, config.stomp_listen), (None, None));
    assert_eq!(config.shard.max_failures, 3);
    assert_eq!(config.log, "warn");
    assert_eq!(in_force(&["--log", "debug"]).unwrap().log, "debug");
    let config = in_force(&["--recovery", "truncate-tail"]).unwrap();
    assert_eq!(config.shard.recovery, crate::base::config::RecoveryPolicy::TruncateTail);
    for bad in [
        ["--set", "x"],
        ["--recovery", "x"],
        ["--set", "x=1"],
        ["--listen", "x"],
        ["--http", "x"],
        ["--stomp", "x"],
        ["--set", "stomp.tokens=alice:abc"],
        ["--set", "stomp.tokens=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        ["--config", "/no/such"],
    ] {
        assert_eq!(in_force(&bad).unwrap_err().code(), 2, "{bad:?}");
    }
}

#[test]
fn strangers_are_kept_out_unless_wanted() {
    let judge = |listen: &str, insecure| {
        Place::find("--listen", listen, insecure).map(drop).map_err(|e| e.code())
    };
    assert_eq!(judge("127.0.0.1:7700", false), Ok(()));
    assert_eq!(judge("127.9.9.9:0", false), Ok(()));
    assert_eq!(judge("[::1]:7700", false), Ok(()));
    assert_eq!(judge("0.0.0.0:7700", false), Err(2));
    assert_eq!(judge("[::]:7700", false), Err(2));
    assert_eq!(judge("192.0.2.1:7700", false), Err(2));
    assert_eq!(judge("0.0.0.0:7700", true), Ok(()));
}

#[test]
fn a_port_in_use_is_told_with_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failure = Place::find("--http", &address, false).unwrap().bind().unwrap_err();
    assert!(failure.message().unwrap().contains("--http"), "{failure:?}");
}

#[test]
fn the_ready_line_is_the_contract() {
    let address = |text: &str| text.parse().unwrap();
    let mut listening = Listening {
        binary: address("127.0.0.1:7700"),
        http: Some(address("[::1]:7780")),
        stomp: None,
    };
    let told = |listening: &Listening| {
        serde_json::to_string(&ReadyLine { listening, data_dir: "/d".into() }).unwrap()
    };
    assert_eq!(
        told(&listening),
        r#"{"listening":{"binary":"127.0.0.1:7700","http":"[::1]:7780"},"data_dir":"/d"}"#
    );
    listening.http = None;
    assert_eq!(told(&listening), r#"{"listening":{"binary":"127.0.0.1:7700"},"data_dir":"/d"}"#);
}
