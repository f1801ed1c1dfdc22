use super::*;
use crate::base::config::RecoveryPolicy;

fn read(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    config.apply_file(Path::new("postdate.toml"), text)?;
    Ok(config)
}

/// Goal: the sample in the documentation is complete, true, and says what the defaults are.
#[test]
fn the_sample_is_the_defaults_with_their_documentation() {
    let sample = include_str!("../../../docs/config.toml");
    assert_eq!(read(sample).unwrap(), Config::default());
    assert_eq!(
        sample,
        Config::default().to_toml(),
        "write it again: postdate serve --print-config > docs/config.toml"
    );
    for setting in SETTINGS {
        let doc = setting.doc;
        assert!(doc.contains("Default: "), "{}", setting.name);
        let default = (setting.show)(&Config::default());
        assert!(doc.contains(&format!("Default: {default}.")), "{}: {default}", setting.name);
    }
}

#[test]
fn what_is_printed_reads_back() {
    let config = read(
        "data_dir = 'a \"b\" \\c'\nlisten = \"[::1]:0\"\ndurability = \"interval\"\n\
         sync_interval_ms = 50\nrecovery = \"skip-damaged\"\nsegment_mib = 40\nmemory_mib = 0x10\n\
         journal_tail_mib = 3\ndisk_reserve_mib = 0\nmax_connections = 1\n\
         max_destinations = 7\ntopic_max_messages = 8\ntopic_max_bytes = 2_000_000\n\
         topic_max_age = \"1h30m\"\nack_timeout = 100\nmax_failures = 1\nfront_threads = 3\n\
         log = \"warn,postdate::front=debug\"\n[http]\nlisten = \"[::1]:0\"\n\
         origins = [\"https://a.example\", 'http://b.example:8080']\n",
    )
    .unwrap();
    assert_eq!(read(&config.to_toml()).unwrap(), config);
    assert_eq!(config.shard_config().durability, Durability::Interval { every_ms: 50 });
    assert_eq!(config.shard_config().recovery, RecoveryPolicy::SkipDamaged);
    assert_eq!(config.shard.segment_bytes, 40 * 1024 * 1024);
    assert_eq!(config.shard.memory, 16 * 1024 * 1024);
    assert_eq!((config.shard.journal_tail, config.shard.disk_reserve), (3 * 1024 * 1024, 0));
    assert_eq!(config.shard.topic_age_ms, 5_400_000);
    assert_eq!(config.shard.ack_timeout_ms, 100);
    assert_eq!(config.front_threads(), 3);
    assert_eq!(config.http_listen.as_deref(), Some("[::1]:0"));
    assert_eq!(config.http_origins, ["https://a.example", "http://b.example:8080"]);
    let off = read("http.listen = \"off\"\nhttp.origins = \"*\"\n").unwrap();
    assert_eq!((off.http_listen.as_deref(), off.http_origins.len()), (None, 1));
    assert_eq!(read(&off.to_toml()).unwrap(), off);
    assert!(Config::default().front_threads() >= 1);
}

/// Goal: every bad value is refused, naming the field and the line. Method: each stands on line 3
/// of a file that is good otherwise.
#[test]
fn bad_values_name_their_field_and_line() {
    let bad = [
        ("data_dir", "\"\""),
        ("data_dir", "7"),
        ("listen", "\"7700\""),
        ("listen", "\":7700\""),
        ("listen", "\"127.0.0.1:70000\""),
        ("listen", "7700"),
        ("durability", "\"sometimes\""),
        ("durability", "true"),
        ("recovery", "\"hope\""),
        ("recovery", "1"),
        ("sync_interval_ms", "0"),
        ("sync_interval_ms", "60001"),
        ("sync_interval_ms", "\"soon\""),
        ("segment_mib", "39"),
        ("segment_mib", "1025"),
        ("memory_mib", "15"),
        ("memory_mib", "1048577"),
        ("memory_mib", "1.5"),
        ("journal_tail_mib", "0"),
        ("journal_tail_mib", "65537"),
        ("disk_reserve_mib", "-1"),
        ("disk_reserve_mib", "1048577"),
        ("max_connections", "0"),
        ("max_connections", "1000001"),
        ("max_connections", "-1"),
        ("max_destinations", "0"),
        ("max_destinations", "10000001"),
        ("topic_max_messages", "0"),
        ("topic_max_messages", "1000000001"),
        ("topic_max_bytes", "1048575"),
        ("topic_max_bytes", "1099511627777"),
        ("topic_max_bytes", "99999999999999999999999999999999999999999999"),
        ("topic_max_age", "\"999ms\""),
        ("topic_max_age", "\"365d1ms\""),
        ("topic_max_age", "\"-1d\""),
        ("topic_max_age", "[1]"),
        ("ack_timeout", "99"),
        ("ack_timeout", "\"12h1ms\""),
        ("ack_timeout", "2020-01-01"),
        ("ack_timeout", "-1"),
        ("max_failures", "0"),
        ("max_failures", "10001"),
        ("front_threads", "257"),
        ("front_threads", "-1"),
        ("log", "\"loud=\""),
        ("log", "3"),
        ("log", "{ level = 3 }"),
        ("http.listen", "\"7780\""),
        ("http.listen", "\"\""),
        ("http.listen", "[\"127.0.0.1:1\"]"),
        ("http.origins", "1"),
        ("http.origins", "[1]"),
        ("http.origins", "[\"a.example\"]"),
        ("http.origins", "[\"https://a.example/\"]"),
        ("http.origins", "[\"https://\"]"),
        ("stomp.listen", "\"61613\""),
        ("stomp.tokens", "1"),
        ("stomp.tokens", "[\"alice\"]"),
        ("stomp.tokens", "[\"alice:9f86d0\"]"),
    ];
    for setting in SETTINGS {
        assert!(bad.iter().any(|(name, _)| *name == setting.name), "{} is untested", setting.name);
    }
    for (name, value) in bad {
        let other = if name == "max_failures" { "front_threads" } else { "max_failures" };
        let text = format!("# one\n{other} = 1\n{name} = {value}\n");
        let error = read(&text).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("postdate.toml, line 3: "), "{shown}");
        assert!(shown.contains(name), "{shown}");
    }
}

#[test]
fn what_is_not_known_or_not_toml_is_refused_with_its_line() {
    let line = |text: &str| match read(text).unwrap_err().origin {
        Origin::File { line, .. } => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(line("\nmax_conections = 1\n"), 2);
    assert_eq!(line("max_failures = 1\n\n[shard]\nx = 1\n"), 3);
    assert_eq!(line("max_failures = 1\n\n[http]\nx = 1\n"), 4);
    assert_eq!(line("http = 1\n"), 1);
    assert_eq!(line("max_failures = 1\nlisten = \n"), 2);
    assert_eq!(line("max_failures = 1\nmax_failures = 2\n"), 2);
    assert_eq!(line("zebra = 1\nmax_failures = 0\n"), 1, "the first fault of the file");
    assert_eq!(line("zebra = 1\napple = 1\n"), 1, "in order of the file, not of the alphabet");
    let error = read("max_conections = 1").unwrap_err().to_string();
    assert!(error.contains("unknown setting `max_conections`"), "{error}");
    assert!(error.contains("max_connections"), "{error}");
}

#[test]
fn flags_win_over_environment_over_file() {
    let mut config = read("max_failures = 2\nlisten = \"[::1]:1\"\nlog = \"warn\"\n").unwrap();
    let environment = |name: &str| match name {
        "POSTDATE_MAX_FAILURES" => Some("3".to_owned()),
        "POSTDATE_LISTEN" => Some("[::1]:2".to_owned()),
        "POSTDATE_HTTP_ORIGINS" => Some("http://a.example, https://b.example".to_owned()),
        _ => None,
    };
    config.apply_environment(environment).unwrap();
    config.apply_flag("--listen", "listen", "[::1]:3").unwrap();
    assert_eq!(config.shard.max_failures, 3);
    assert_eq!(config.listen, "[::1]:3");
    assert_eq!(config.http_origins, ["http://a.example", "https://b.example"]);
    assert_eq!(config.log, "warn");

    let error = config
        .apply_environment(|name| (name == "POSTDATE_MAX_FAILURES").then(|| "none".to_owned()))
        .unwrap_err();
    assert!(error.to_string().starts_with("environment variable POSTDATE_MAX_FAILURES: "));
    let error = config.apply_flag("--listen", "listen", "nowhere").unwrap_err();
    assert!(error.to_string().starts_with("--listen: listen: "), "{error}");
}
