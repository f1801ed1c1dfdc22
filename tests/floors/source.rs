//! Reads a Rust source file just well enough to check rules on it: comments and the insides of
//! literals are blanked, test code is found, paths (`a::b`, `use a::{b, c::d}`) are spelled out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
pub(crate) struct Source {
    /// Path from the root of the package, with `/`.
    pub(crate) name: String,
    /// Its lines as they are.
    pub(crate) raw: String,
    /// The text with comments and literals blanked; same length, same lines.
    pub(crate) masked: String,
    /// `masked` with test code blanked as well.
    pub(crate) code: String,
    /// Lines that hold test code and nothing else.
    test_lines: usize,
}

/// A path as it is spelled out in code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

impl Source {
    pub(crate) fn new(name: &str, raw: &str) -> Self {
        let masked = mask(raw);
        let mut code = masked.clone().into_bytes();
        for (start, end) in test_parts(&masked) {
            blank(&mut code[start..end]);
        }
        let code = String::from_utf8(code).unwrap();
        let test_lines = masked
            .lines()
            .zip(code.lines())
            .filter(|(all, left)| left.trim().is_empty() && !all.trim().is_empty())
            .count();
        Self { name: name.into(), raw: raw.into(), masked, code, test_lines }
    }

    /// The module right below the crate root that the file belongs to; `lib` and `main` for these.
    pub(crate) fn module(&self) -> &str {
        let path = self.name.trim_start_matches("src/");
        path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
    }

    /// How many `super::` lead from the file to the crate root.
    fn depth(&self) -> usize {
        let path = self.name.trim_start_matches("src/");
        let below = path.matches('/').count();
        if matches!(path, "lib.rs" | "main.rs") {
            0
        } else if path.ends_with("/mod.rs") {
            below
        } else {
            below + 1
        }
    }

    /// Lines without those of test code.
    pub(crate) fn code_lines(&self) -> usize {
        if self.code.trim().is_empty() { 0 } else { self.raw.lines().count() - self.test_lines }
    }

    /// Paths in code that is not test code. `super::` that reaches the crate root reads `crate`.
    pub(crate) fn mentions(&self) -> Vec<Mention> {
        let mut found = mentions(&self.code);
        for mention in &mut found {
            let ups = mention.path.iter().skip_while(|part| *part == "self");
            let ups = ups.take_while(|part| *part == "super").count();
            if ups > 0 && ups >= self.depth() {
                let rest = mention.path.iter().skip_while(|p| *p == "self" || *p == "super");
                mention.path = std::iter::once(&"crate".to_owned()).chain(rest).cloned().collect();
            }
        }
        found
    }

    /// The line of a place in the text, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        line_of(&self.raw, at)
    }
}

/// All Rust files below a directory of the package. Files of `#[cfg(test)] mod x;` have no code.
pub(crate) fn read_all(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(directory), &mut paths);
    paths.sort();
    let named = paths.iter().map(|path| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        Source::new(&name, &fs::read_to_string(path).unwrap())
    });
    let mut sources: Vec<Source> = named.collect();
    leave_out_test_files(&mut sources);
    sources
}

/// Blanks the code of files that are only compiled for tests, and of those below them.
pub(crate) fn leave_out_test_files(sources: &mut [Source]) {
    let mut test_modules = BTreeSet::new();
    for source in sources.iter() {
        for (start, end) in test_parts(&source.masked) {
            let item = source.masked[start..end].trim_end();
            let words: Vec<&str> = item.trim_end_matches(';').split_whitespace().collect();
            if let (true, [.., "mod", module]) = (item.ends_with(';'), &words[..]) {
                let own = source.name.trim_end_matches(".rs");
                let below = ["/mod", "/lib", "/main"].iter().find_map(|end| own.strip_suffix(end));
                test_modules.insert(format!("{}/{module}", below.unwrap_or(own)));
            }
        }
    }
    for source in sources {
        let own = source.name.trim_end_matches(".rs");
        let test = |module: &String| own == module || own.starts_with(&format!("{module}/"));
        if test_modules.iter().any(test) {
            let mut code = std::mem::take(&mut source.code).into_bytes();
            blank(&mut code);
            source.code = String::from_utf8(code).unwrap();
        }
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() + 1
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Blanks comments and the insides of string and character literals, byte for byte.
pub(crate) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at + literal_or_comment(rest, at > 0 && is_word(bytes[at - 1]));
        if end > at {
            blank(&mut out[at..end]);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

/// Length of the literal or comment at the beginning of `rest`; 0 when there is none.
fn literal_or_comment(rest: &[u8], in_word: bool) -> usize {
    let until = |end: &[u8], from: usize| {
        let behind = rest.get(from..).unwrap_or_default();
        let found = behind.windows(end.len()).position(|part| part == end);
        found.map_or(rest.len(), |found| from + found + end.len())
    };
    if rest.starts_with(b"//") {
        return until(b"\n", 0).min(rest.len());
    }
    if rest.starts_with(b"/*") {
        let (mut depth, mut at) = (1, 2);
        while depth > 0 && at < rest.len() {
            match &rest[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
        }
        return at;
    }
    if !in_word {
        let prefix = rest.iter().take_while(|b| matches!(b, b'b' | b'c' | b'r')).count();
        let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
        let raw = prefix > 0 && prefix <= 2 && rest[prefix - 1] == b'r';
        if raw && rest.get(prefix + hashes) == Some(&b'"') {
            let end: Vec<u8> = std::iter::once(b'"').chain(vec![b'#'; hashes]).collect();
            return until(&end, prefix + hashes + 1);
        }
    }
    let quoted = |quote: u8| {
        let mut at = 1;
        while at < rest.len() && rest[at] != quote {
            at += if rest[at] == b'\\' { 2 } else { 1 };
        }
        (at + 1).min(rest.len())
    };
    match rest {
        [b'"', ..] => quoted(b'"'),
        [b'\'', b'\\', ..] => quoted(b'\''),
        // One character of up to four bytes, then a quote; otherwise it is a lifetime.
        [b'\'', first, tail @ ..] if *first != b'\'' => {
            let more = tail.iter().take_while(|b| **b & 0xc0 == 0x80).count();
            if tail.get(more) == Some(&b'\'') { more + 3 } else { 0 }
        }
        _ => 0,
    }
}

/// Where the items under `#[cfg(test)]` stand in a masked text, attributes included.
fn test_parts(masked: &str) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    if masked.contains("#![cfg(test)]") {
        return vec![(0, masked.len())];
    }
    for mark in ["#[cfg(test)]", "#[cfg(all(test,"] {
        for (start, _) in masked.match_indices(mark) {
            parts.push((start, start + item_len(&masked[start..])));
        }
    }
    parts
}

/// Length of the attributes and the item, field, arm or statement behind them.
fn item_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        if bytes[at..].starts_with(b"#[") {
            at += closing(&bytes[at + 1..]) + 2;
        } else {
            break;
        }
    }
    let words: Vec<&str> = text[at..]
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty() && !matches!(*word, "pub" | "crate" | "super" | "in"))
        .take(2)
        .collect();
    let to_semicolon = matches!(words[..], ["use" | "static" | "type" | "let", ..] | ["const", _])
        && words.get(1) != Some(&"fn");
    let with_block = matches!(
        words[..],
        ["fn" | "mod" | "impl" | "struct" | "enum" | "trait" | "union" | "async" | "extern", ..]
            | ["unsafe" | "macro_rules", ..]
            | ["const", "fn"]
    );
    while at < bytes.len() {
        match bytes[at] {
            b';' => return at + 1,
            b',' if !to_semicolon && !with_block => return at + 1,
            b'}' | b')' | b']' => return at,
            b'{' if !to_semicolon => return at + closing(&bytes[at..]) + 1,
            b'{' | b'(' | b'[' => at += closing(&bytes[at..]) + 1,
            _ => at += 1,
        }
    }
    at
}

/// Where the bracket that `bytes` begins with is closed; the end when it is not.
fn closing(bytes: &[u8]) -> usize {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len().saturating_sub(1)
}

/// All paths of a masked text, groups spelled out, a glob as `*`; single words only after `use`.
pub(crate) fn mentions(masked: &str) -> Vec<Mention> {
    let bytes = masked.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut in_use) = (0, false);
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            in_use &= bytes[at].is_ascii_whitespace() || matches!(bytes[at], b':' | b'{');
            at += 1;
            continue;
        }
        let mut paths = Vec::new();
        let end = tree(bytes, at, &mut Vec::new(), &mut paths);
        let is_use = masked[at..].starts_with("use") && end == at + 3;
        // A plain word is a name of something here, unless it is imported.
        paths.retain(|mention: &Mention| in_use || mention.path.len() > 1);
        found.extend(paths);
        (at, in_use) = (end.max(at + 1), is_use);
    }
    found
}

/// Reads `a::b::{c, d::*}` from `at` on; gives the end.
fn tree(bytes: &[u8], mut at: usize, stem: &mut Vec<String>, found: &mut Vec<Mention>) -> usize {
    let space = |at: usize| {
        at + bytes[at.min(bytes.len())..].iter().take_while(|b| b.is_ascii_whitespace()).count()
    };
    let text = |start: usize, end: usize| String::from_utf8_lossy(&bytes[start..end]).into_owned();
    let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
    let depth = stem.len();
    loop {
        at = space(at);
        match bytes.get(at) {
            Some(b'{') => {
                at += 1;
                loop {
                    at = space(at);
                    match bytes.get(at) {
                        Some(b'}') => break at += 1,
                        Some(b',') => at += 1,
                        Some(_) => {
                            let before = at;
                            at = tree(bytes, at, stem, found);
                            // Renamed, or no import at all: go on behind it.
                            while before == at || !matches!(bytes.get(at), Some(b',' | b'}') | None)
                            {
                                at += 1;
                            }
                        }
                        None => break,
                    }
                }
                break;
            }
            Some(b'*') => {
                stem.push("*".into());
                found.push(Mention { line, path: stem.clone() });
                at += 1;
                break;
            }
            Some(&byte) if is_word(byte) => {
                let end = at + bytes[at..].iter().take_while(|b| is_word(**b)).count();
                stem.push(text(at, end));
                at = end;
                // Right behind the word, or `use ::a` would be a path that begins with `use`.
                if bytes[at..].starts_with(b"::") {
                    let behind = space(at + 2);
                    if matches!(bytes.get(behind), Some(&b) if is_word(b) || b == b'{' || b == b'*')
                    {
                        at = behind;
                        continue;
                    }
                }
                found.push(Mention { line, path: stem.clone() });
                break;
            }
            _ => break,
        }
    }
    stem.truncate(depth);
    at
}
