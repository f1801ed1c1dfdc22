//! Goal: the shape of the code stays what the design says. Method: read the sources as text and
//! check each rule; each rule's checker is tried on a bad sample too, so it cannot go blind.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod source;

use source::{Mention, Source, leave_out_test_files, mask, mentions, read_all};

/// Module, floor, and what it may import. A new module or a new dependency between floors needs
/// a line here and a note in `docs/design/`.
const FLOORS: &[(&str, u8, &[&str])] = &[
    ("base", 0, &[]),
    ("env", 1, &["base"]),
    ("calendar", 1, &["base"]),
    ("codec", 1, &["base"]),
    ("wheel", 1, &["base"]),
    ("journal", 2, &["env", "codec", "base"]),
    ("store", 2, &["env", "codec", "base"]),
    ("engine", 3, &["wheel", "base"]),
    ("shard", 4, &["engine", "journal", "store", "calendar", "env", "codec", "base"]),
    ("wire", 4, &["base"]),
    ("front", 5, &["shard", "wire", "base"]),
    ("client", 5, &["shard", "wire", "base"]),
    ("cli", 6, NOT_SIM),
    // The test tools: see everything, are seen by nothing.
    ("sim", 9, NOT_SIM),
    // Their programs.
    ("bin", 10, &["sim"]),
];

const NOT_SIM: &[&str] = &[
    "base", "calendar", "env", "codec", "wheel", "journal", "store", "engine", "shard", "wire",
    "front", "client", "cli",
];

/// Where the edges of the system are: async and the world's ways are theirs.
const EDGES: &[&str] = &["front", "client", "cli", "main", "bin"];

/// And of the test tools, those that run the real server and its disk.
const EDGE_TOOLS: &[&str] = &["src/sim/torture/", "src/sim/volatile/"];

fn is_edge(source: &Source) -> bool {
    EDGES.contains(&source.module()) || EDGE_TOOLS.iter().any(|tool| source.name.starts_with(tool))
}

/// Crates of the edges.
const EDGE_CRATES: &[&str] =
    &["tokio", "tokio_util", "axum", "hyper", "hyper_util", "tower", "rustls", "tokio_rustls"];

/// Parts of the standard library that reach into the world, and who besides the edges may.
const WORLD: &[(&[&str], &[&str])] = &[
    (&["std", "time", "Instant"], &["env"]),
    (&["std", "time", "SystemTime"], &["env"]),
    (&["std", "fs"], &["env"]),
    (&["std", "thread"], &["shard"]),
    (&["std", "net"], &[]),
];

const LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 120;

/// What no source may say, tests included.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "#[ignore"];

/// Breaches of a rule: `file:line: what`.
type Breaches = Vec<String>;

fn breach(source: &Source, line: usize, what: &str) -> String {
    format!("{}:{line}: {what}", source.name)
}

fn check_imports(source: &Source) -> Breaches {
    let own = source.module();
    let allowed = match FLOORS.iter().find(|(module, ..)| *module == own) {
        Some((_, _, allowed)) => *allowed,
        // The roots only declare the floors and start the program.
        None if own == "lib" || own == "main" => NOT_SIM,
        None => {
            let what = format!("module `{own}` has no floor: add it to FLOORS and to the design");
            return vec![breach(source, 1, &what)];
        }
    };
    let mut breaches = Vec::new();
    for Mention { line, path } in source.mentions() {
        let ["crate" | "postdate", module, ..] =
            path.iter().map(String::as_str).collect::<Vec<_>>()[..]
        else {
            continue;
        };
        if module == own || allowed.contains(&module) {
            continue;
        }
        let known = FLOORS.iter().any(|(name, ..)| *name == module);
        let what = if known {
            format!("`{own}` must not import `{module}`: imports go down only, see FLOORS")
        } else {
            format!("`{}` does not name a module that has a floor", path.join("::"))
        };
        breaches.push(breach(source, line, &what));
    }
    breaches
}

fn check_edge_crates(source: &Source) -> Breaches {
    let free = is_edge(source);
    let bad = |mention: &Mention| !free && EDGE_CRATES.contains(&mention.path[0].as_str());
    let found = source.mentions().into_iter().filter(bad);
    let what = |path: &[String]| format!("`{}`: async belongs to {EDGES:?}", path.join("::"));
    found.map(|mention| breach(source, mention.line, &what(&mention.path))).collect()
}

fn check_world(source: &Source) -> Breaches {
    let own = source.module();
    let mut breaches = Vec::new();
    for Mention { line, path } in source.mentions() {
        for (world, allowed) in WORLD {
            // `use std::time;` and `use std::*;` would let it in unseen.
            let stem = path.strip_suffix(&["self".to_owned()][..]).unwrap_or(&path);
            let stem = stem.strip_suffix(&["*".to_owned()][..]).unwrap_or(stem);
            let all = stem.len() < world.len() && world.starts_with(&words(stem));
            let named = words(&path).starts_with(world);
            if (all || named) && !is_edge(source) && !allowed.contains(&own) {
                let (path, world) = (path.join("::"), world.join("::"));
                let what = format!("`{path}`: `{world}` is for {allowed:?} and {EDGES:?} only");
                breaches.push(breach(source, line, &what));
                break;
            }
        }
    }
    breaches
}

fn words(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// The one file that may say `unsafe`: it looks at sealed files as memory.
const UNSAFE: &str = "src/env/map.rs";

fn check_unsafe(source: &Source) -> Breaches {
    if source.name == UNSAFE {
        return vec![];
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let found = source.masked.match_indices("unsafe").filter(|(at, text)| {
        let (before, behind) = (&source.masked[..*at], &source.masked[at + text.len()..]);
        !before.ends_with(word) && !behind.starts_with(word)
    });
    found.map(|(at, _)| breach(source, source.line_of(at), "no `unsafe` here")).collect()
}

fn check_length(source: &Source) -> Breaches {
    let lines = source.code_lines();
    let what = format!("{lines} lines without tests: one idea a file, at most {LINES_MAX}");
    if lines > LINES_MAX { vec![breach(source, lines, &what)] } else { vec![] }
}

fn check_columns(source: &Source) -> Breaches {
    let columns = source.raw.lines().map(|line| line.chars().count());
    let long = (1..).zip(columns).filter(|(_, columns)| *columns > COLUMNS_MAX);
    let what = |columns| format!("{columns} columns, at most {COLUMNS_MAX}");
    long.map(|(line, columns)| breach(source, line, &what(columns))).collect()
}

fn check_unfinished(source: &Source) -> Breaches {
    let mut breaches = Vec::new();
    for mark in UNFINISHED {
        for (at, _) in source.masked.match_indices(mark) {
            breaches.push(breach(source, source.line_of(at), &format!("`{mark}`")));
        }
    }
    breaches
}

/// Checks all files of these directories and fails with every breach.
fn check_all(directories: &[&str], check: fn(&Source) -> Breaches) {
    let sources: Vec<Source> = directories.iter().flat_map(|name| read_all(name)).collect();
    assert!(sources.iter().any(|source| source.name == "src/lib.rs"), "the sources were not found");
    let breaches: Vec<String> = sources.iter().flat_map(check).collect();
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn imports_go_down_only() {
    check_all(&["src"], check_imports);
}

#[test]
fn async_crates_stay_at_the_edges() {
    check_all(&["src"], check_edge_crates);
}

#[test]
fn clocks_files_threads_and_sockets_stay_in_their_places() {
    check_all(&["src"], check_world);
}

#[test]
fn nothing_is_unsafe_but_the_mapping_of_sealed_files() {
    check_all(&["src", "tests", "benches"], check_unsafe);
}

#[test]
fn files_are_short() {
    check_all(&["src"], check_length);
}

#[test]
fn lines_are_short() {
    check_all(&["src", "tests", "benches"], check_columns);
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    check_all(&["src", "tests", "benches"], check_unfinished);
}

/// Tries a checker on a sample, line by line in one file: exactly these lines breach the rule.
fn expect(check: fn(&Source) -> Breaches, name: &str, text: &str, lines: &[usize]) {
    let source = Source::new(name, text);
    let wanted: Vec<String> = lines.iter().map(|line| format!("{name}:{line}:")).collect();
    let found = check(&source);
    let told = found.iter().map(|breach| breach.split_inclusive(':').take(2).collect::<String>());
    assert_eq!(told.collect::<Vec<_>>(), wanted, "in {text:?}: {found:#?}");
}

#[test]
fn the_table_of_floors_goes_down_only() {
    let floor = |name: &str| FLOORS.iter().find(|(module, ..)| *module == name).unwrap().1;
    for (module, own, allowed) in FLOORS {
        for below in *allowed {
            assert!(floor(below) < *own || *module == "cli" && *below == "cli", "{module} {below}");
        }
    }
}

#[test]
fn a_wrong_import_is_found() {
    let bad = "use crate::base::id::Key;\n\
        use crate::engine::Engine;\n\
        use crate::{base::id, codec, wheel::{self, Wheel}};\n\
        fn f() { crate::journal::g(); }\n\
        use super::env::Disk;\n\
        // use crate::engine::Comment;\n\
        const S: &str = \"crate::engine\";\n\
        use crate::*;\n\
        use crate::nowhere::X;\n\
        #[cfg(test)]\nmod tests { use crate::sim::SimDisk; }\n\
        use postdate::shard::Broker;\n";
    expect(check_imports, "src/wheel/mod.rs", bad, &[2, 3, 4, 5, 8, 9, 12]);
    // One floor further down `super::env` is a neighbour, and its parent's parent the root.
    expect(
        check_imports,
        "src/wheel/bag.rs",
        "use super::env::X;\nuse super::super::env::X;",
        &[2],
    );
    expect(check_imports, "src/wheel.rs", "use super::env::X;", &[1]);
    expect(check_imports, "src/env/disk.rs", "use crate::codec::X;", &[1]);
    expect(check_imports, "src/shard/mod.rs", "use crate::wheel::Wheel;", &[1]);
    expect(check_imports, "src/cli/mod.rs", "use crate::wheel::W;\nuse crate::sim::X;", &[2]);
    expect(check_imports, "src/main.rs", "use postdate::cli;\nuse postdate::sim::X;", &[2]);
    expect(check_imports, "src/sim/mod.rs", "use crate::{cli, base, shard};", &[]);
    expect(check_imports, "src/attic/mod.rs", "", &[1]);
}

#[test]
fn an_async_crate_below_the_edges_is_found() {
    let bad = "use tokio::sync::mpsc;\nfn f() { tokio::spawn(g()); }\nuse axum;\nlet tokio = 1;\n\
        use ::tokio::net;\n// tokio::x\nuse {std::fmt, tokio::time};\nuse my::tokio::x;\n";
    expect(check_edge_crates, "src/shard/mod.rs", bad, &[1, 2, 3, 5, 7]);
    expect(check_edge_crates, "src/front/tcp.rs", bad, &[]);
    expect(check_edge_crates, "src/sim/torture/load.rs", bad, &[]);
    expect(check_edge_crates, "src/sim/world.rs", bad, &[1, 2, 3, 5, 7]);
}

#[test]
fn a_reach_into_the_world_is_found() {
    let bad = "use std::time::Duration;\nuse std::time::{Duration, Instant};\nuse std::time;\n\
        use std::{fmt, fs};\nfn f() { std::thread::spawn(g); }\nuse std::net::TcpStream;\n\
        use std::time::{self, Duration};\nfn h() { std::time::SystemTime::now(); }\nuse std::*;\n\
        use std::io::Write;\n#[cfg(test)]\nuse std::fs::File;\nuse std::fs::File;\n";
    expect(check_world, "src/engine/mod.rs", bad, &[2, 3, 4, 5, 6, 7, 8, 9, 13]);
    expect(check_world, "src/cli/mod.rs", bad, &[]);
    let own =
        "use std::fs::File;\nuse std::time::Instant;\nuse std::thread;\nuse std::net::IpAddr;";
    expect(check_world, "src/env/clock.rs", own, &[3, 4]);
    expect(check_world, "src/shard/thread.rs", own, &[1, 2, 4]);
}

#[test]
fn unsafe_code_is_found() {
    let bad = "#![deny(unsafe_code)]\nfn f() { unsafe { g() } }\n// unsafe\nlet s = \"unsafe\";\n\
        #[cfg(test)]\nmod tests { unsafe fn h() {} }\n";
    expect(check_unsafe, "src/base/id.rs", bad, &[2, 6]);
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let code = "fn f() {}\n".repeat(LINES_MAX);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn g() {}\n".repeat(900));
    expect(check_length, "src/base/id.rs", &format!("{code}{tests}"), &[]);
    expect(check_length, "src/base/id.rs", &format!("{code}{tests}//\n"), &[LINES_MAX + 1]);
    let mut sources = [
        Source::new("src/wheel/mod.rs", "#[cfg(test)]\nmod tests;\nmod bag;\n"),
        Source::new("src/wheel/tests.rs", &code.repeat(2)),
        Source::new("src/wheel/tests/more.rs", &code.repeat(2)),
        Source::new("src/wheel/bag.rs", &code.repeat(2)),
        Source::new("src/tests.rs", &code.repeat(2)),
    ];
    leave_out_test_files(&mut sources);
    let long: Vec<usize> = sources.iter().map(|source| check_length(source).len()).collect();
    assert_eq!(long, [0, 0, 0, 1, 1]);
}

#[test]
fn a_long_line_is_found() {
    let bad = format!("//{}\n//{}é\n//{}", "a".repeat(118), "a".repeat(117), "a".repeat(119));
    expect(check_columns, "src/base/id.rs", &bad, &[3]);
}

#[test]
fn what_is_unfinished_is_found() {
    let bad = "fn f() { todo!() }\nfn g() { unimplemented!(\"x\") }\n#[test]\n#[ignore = \"slow\"]\n\
        // todo!()\nconst S: &str = \"todo!(\";\n";
    let marks = |source: &Source| {
        let mut found = check_unfinished(source);
        found.sort();
        found
    };
    expect(marks, "src/base/id.rs", bad, &[1, 2, 4]);
}

#[test]
fn literals_and_comments_are_blanked() {
    for (text, left) in [
        (r#"a "x\" y" b"#, "a          b"),
        (r##"a r#"x" y"# b"##, "a            b"),
        ("a '\"' b '\\'' c 'é' d", "a     b      c       d".replacen("  d", " d", 0).as_str()),
        ("f::<'a, 'b>(x)", "f::<'a, 'b>(x)"),
        ("a /* x /* y */ z */ b // c\nd", "a                   b     \nd"),
        ("for_r\"x\"", "for_r   "),
    ] {
        let masked = mask(text);
        assert_eq!(masked.len(), text.len());
        assert_eq!(
            masked.split_whitespace().collect::<Vec<_>>(),
            left.split_whitespace().collect::<Vec<_>>(),
            "{text}"
        );
    }
}

#[test]
fn paths_are_spelled_out_with_their_lines() {
    let text = "use a::{b,\n  c::{d as e, *},\n  f};\nx.y::<u8>();\ng::h::<T>::i(j);\nlet k = l;";
    let told: Vec<String> = mentions(text)
        .iter()
        .map(|mention| format!("{} {}", mention.line, mention.path.join("::")))
        .collect();
    assert_eq!(told, ["1 a::b", "2 a::c::d", "2 a::c::*", "3 a::f", "5 g::h"]);
}

#[test]
fn only_the_test_item_is_left_out() {
    let text = "#[cfg(test)]\nuse a::{b, c};\nuse d::e;\nstruct S {\n    #[cfg(test)]\n    f: g::H,\n\
        \x20   i: j::K,\n}\n#[cfg(test)]\n#[derive(Debug)]\nstruct L { m: n::O }\nfn p() { q::r() }\n\
        #[cfg(test)]\nconst fn s() { t::u() }\n#[cfg(test)]\nconst V: [w::X; 2] = [w::Y { a: 1 }];\n\
        use z::z;\n";
    let source = Source::new("src/base/id.rs", text);
    let told: Vec<String> = source.mentions().iter().map(|m| m.path.join("::")).collect();
    assert_eq!(told, ["d::e", "j::K", "q::r", "z::z"]);
}
