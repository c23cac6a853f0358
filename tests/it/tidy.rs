//! What the source tree keeps to: the layers that `src/lib.rs` draws, one home for each foreign crate, pure lower layers, files with
//! a purpose and of a readable size, a page for every error code, nothing of one machine. Production code is meant: what is compiled
//! under `cfg(test)` only is left out of the rules on imports and size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tidemill::error::codes::PAGES;

const PRODUCTION_LINES_MAX: usize = 600;
const TEST_ONLY: &str = "#[cfg(test)]";

/// Where a foreign crate may be named: files and folders of `src/`, without `.rs`.
const HOMES: &[(&str, &[&str])] = &[
    ("rdkafka", &["broker/kafka"]),
    ("rdkafka_sys", &["broker/kafka"]),
    ("rocksdb", &["store/rocks"]),
    ("prometheus", &["metrics"]),
    ("schema_registry_converter", &["registry"]),
    ("toml", &["topology", "config", "testing"]),
    ("apache_avro", &["avro/schema", "registry"]),
    ("tokio", &["broker", "registry", "config", "runtime", "metrics", "http", "dev", "cli", "main"]),
];

/// What pure code does without: levels 0 to 3 take facts and the time, and return effects.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "File::open",
    "Instant::now",
    "SystemTime::now",
];
const PURE_LEVEL_MAX: usize = 3;
/// The one adapter among them.
const IMPURE_HOMES: [&str; 2] = ["store/rocks", "topology/load"];

/// Split so that this file does not hold them.
const BANNED: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("db", "g!"),
    concat!("unimple", "mented!"),
];
const MACHINE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("repo.maven", ".apache.org"),
    concat!("repo1.maven", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("npmjs", ".org"),
];

/// A Rust file below `src/`.
struct Source {
    /// Below `src/`, without `.rs`: `broker/kafka/mod`.
    path: String,
    /// The module: `broker/kafka`.
    name: String,
    text: String,
    /// The text without comments and the contents of strings, and without its inline test modules; lines keep their numbers.
    code: String,
    /// Lines outside inline test modules.
    lines: usize,
}

impl Source {
    /// Takes the text of `src/{path}.rs`.
    fn new(path: &str, text: String) -> Self {
        let (code, lines) = production(&code_only(&text));
        Self { name: path.strip_suffix("/mod").unwrap_or(path).to_owned(), path: path.to_owned(), text, code, lines }
    }
}

/// Modules by level, and which may import which of their own level.
#[derive(Default)]
struct Layers {
    level: BTreeMap<String, usize>,
    arrows: BTreeSet<(String, String)>,
}

impl Layers {
    /// Reads the table in the documentation of `src/lib.rs`: `L5  runtime → metrics` lets runtime import metrics, and both everything
    /// below. `;` stands between unrelated chains, `,` between equals, words after the first are a remark.
    fn parse(text: &str) -> Self {
        let mut layers = Self::default();
        for line in text.lines() {
            let Some((level, modules)) = line.strip_prefix("//! L").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let level: usize = level.parse().expect("a level is a number");
            for chain in without_parentheses(modules).split(';') {
                let mut above: Vec<String> = Vec::new();
                for group in chain.split('→') {
                    let names: Vec<String> =
                        group.split(',').filter_map(|name| name.split_whitespace().next()).map(str::to_owned).collect();
                    for name in &names {
                        layers.level.insert(name.clone(), level);
                        layers.arrows.extend(above.iter().map(|importer| (importer.clone(), name.clone())));
                    }
                    above.extend(names);
                }
            }
        }
        layers
    }

    fn allows(&self, importer: &str, imported: &str) -> bool {
        importer == imported || self.level[importer] > self.level[imported] || self.reaches(importer, imported)
    }

    /// Follows arrows: what a module may import may bring along what it imports.
    fn reaches(&self, importer: &str, imported: &str) -> bool {
        let mut next = self.arrows.iter().filter(|(from, _)| from == importer);
        next.any(|(_, to)| to == imported || self.reaches(to, imported))
    }
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0;
    text.chars()
        .filter(|char| {
            depth += i32::from(*char == '(');
            let outside = depth == 0;
            depth -= i32::from(*char == ')');
            outside
        })
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Lists files below a folder, in order, leaving out what is built and what begins with a dot but `.ci`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder of the checkout").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        let skipped = (name.starts_with('.') && name != ".ci") || ["target", "bin"].contains(&name.as_str());
        match (path.is_dir(), skipped) {
            (_, true) => {}
            (true, false) => files(&path, found),
            (false, false) => found.push(path),
        }
    }
}

/// Reads the production sources: files that only a `#[cfg(test)] mod` names are left out.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    let all: Vec<Source> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path.strip_prefix(&src).expect("below src").with_extension("").to_string_lossy().into_owned();
            Source::new(&name, fs::read_to_string(path).expect("a source file is UTF-8"))
        })
        .collect();
    let tests: Vec<String> = all.iter().flat_map(test_modules).collect();
    let is_test = |name: &str| tests.iter().any(|test| name == test || name.starts_with(&format!("{test}/")));
    all.into_iter().filter(|source| !is_test(&source.name)).collect()
}

/// Names the files that a source declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let below = |folder: &str, name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let home = if ["lib", "main", "mod"].contains(&file) { folder } else { &source.path };
    let mut lines = source.text.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line != TEST_ONLY {
            continue;
        }
        let mut path = None;
        for line in lines.by_ref() {
            if let Some(file) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix(".rs\"]")) {
                path = Some(below(folder, file));
            } else if !line.starts_with("#[") {
                let name = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
                let name = name.map(|(_, name)| below(home, name));
                found.extend(name.map(|name| path.unwrap_or(name)));
                break;
            }
        }
    }
    found
}

/// Blanks inline test modules; says how many lines are outside them.
fn production(code: &str) -> (String, usize) {
    let (mut kept, mut rest, mut test_lines) = (String::with_capacity(code.len()), code, 0);
    while let Some(start) = rest.find(TEST_ONLY) {
        let item = &rest[start..];
        let head = item.lines().skip(1).map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#["));
        let inline = head.is_some_and(|line| line.contains("mod ") && line.ends_with('{'));
        let length = if inline { block_length(item) } else { TEST_ONLY.len() };
        if inline {
            let newlines = item[..length].matches('\n').count();
            kept.push_str(&rest[..start]);
            kept.extend(std::iter::repeat_n('\n', newlines));
            test_lines += newlines + 1;
        } else {
            kept.push_str(&rest[..start + length]);
        }
        rest = &item[length..];
    }
    kept.push_str(rest);
    (kept, code.trim_end().lines().count() - test_lines)
}

/// Returns the length up to the brace that closes the first one.
fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (position, char) in code.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 1 => return position + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks comments and the contents of strings; what is left has the same lines.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let length = match char {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#") => raw(rest).unwrap_or(0),
            '\'' if rest.chars().nth(2) == Some('\'') && !rest.starts_with("'\\") => {
                2 + rest[1..].chars().next().map_or(0, char::len_utf8)
            }
            '\'' if rest.starts_with("'\\") => rest[2..].find('\'').map_or(0, |end| end + 3).max(4),
            _ => 0,
        };
        if length == 0 {
            code.push(char);
            rest = &rest[char.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().filter(|char| *char == '\n'));
            rest = &rest[length..];
        }
    }
    code
}

/// Returns the length of the string literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (position, char) in text.char_indices().skip(1) {
        if char == '"' && !escaped {
            return position + 1;
        }
        escaped = char == '\\' && !escaped;
    }
    text.len()
}

/// Returns the length of the raw string literal that `text` begins with; none for `r#name`.
fn raw(text: &str) -> Option<usize> {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    let start = 1 + hashes;
    if !text[start..].starts_with('"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(text[start + 1..].find(&close).map_or(text.len(), |end| start + 1 + end + close.len()))
}

/// Returns the line at a position, counted from 1.
fn line_of(code: &str, position: usize) -> usize {
    1 + code[..position].matches('\n').count()
}

fn is_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Returns the modules named right after `crate::`, groups in braces included, each with its line.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (position, path) in code.match_indices("crate::") {
        if code[..position].ends_with(|char: char| is_name(char) || char == ':' || char == '$') {
            continue;
        }
        let after = &code[position + path.len()..];
        let line = line_of(code, position);
        match after.strip_prefix('{') {
            None => found.extend(first_name(after).map(|name| (line, name))),
            Some(group) => found.extend(group_members(group).into_iter().map(|name| (line, name))),
        }
    }
    found
}

fn first_name(path: &str) -> Option<String> {
    let name = path.split(|char: char| !is_name(char)).next().unwrap_or_default();
    if name.is_empty() { None } else { Some(name.to_owned()) }
}

/// Returns the first names of a group's members, up to its closing brace.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut members, mut member) = (0, Vec::new(), String::new());
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(std::mem::take(&mut member)),
            _ if depth == 0 => member.push(char),
            _ => {}
        }
    }
    members.push(member);
    members.iter().filter_map(|member| first_name(member.trim())).collect()
}

/// Returns the lines where a foreign crate is named at the start of a path.
fn mentions(code: &str, name: &str) -> Vec<usize> {
    let starts_path = |position: usize| {
        let after = &code[position + name.len()..];
        let imported = code[..position].ends_with("use ") && !after.starts_with(is_name);
        !code[..position].ends_with(|char: char| is_name(char) || char == ':') && (after.starts_with("::") || imported)
    };
    code.match_indices(name)
        .filter(|(position, _)| starts_path(*position))
        .map(|(position, _)| line_of(code, position))
        .collect()
}

fn is_at(name: &str, home: &str) -> bool {
    name == home || name.strip_prefix(home).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the module of level `L0` to `L6` that a file belongs to; none for the crate's roots.
fn module(name: &str) -> Option<&str> {
    if ["lib", "main"].contains(&name) { None } else { name.split('/').next() }
}

fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

#[test]
fn modules_import_from_lower_layers_only() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.name == "lib").expect("src/lib.rs");
    let layers = Layers::parse(&lib.text);
    let mut breaches = Vec::new();
    for source in &sources {
        let Some(importer) = module(&source.name) else { continue };
        if !layers.level.contains_key(importer) {
            breaches.push(format!("{}: `{importer}` is not in the table", source.name));
            continue;
        }
        for (line, imported) in imports(&source.code) {
            if layers.level.contains_key(&imported) && !layers.allows(importer, &imported) {
                breaches.push(format!("{}:{line}: {importer} may not import {imported}", source.name));
            }
        }
    }
    assert_none("a module imports against the table in src/lib.rs", &breaches);
}

#[test]
fn foreign_crates_are_named_at_home_only() {
    let mut breaches = Vec::new();
    for source in sources() {
        for (name, homes) in HOMES {
            if !homes.iter().any(|home| is_at(&source.name, home)) {
                breaches
                    .extend(mentions(&source.code, name).iter().map(|line| format!("{}:{line}: {name}", source.name)));
            }
        }
    }
    assert_none("a foreign crate is named outside its home", &breaches);
}

#[test]
fn lower_layers_are_pure() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.name == "lib").expect("src/lib.rs");
    let layers = Layers::parse(&lib.text);
    let is_pure = |source: &&Source| {
        let level = module(&source.name).and_then(|module| layers.level.get(module));
        level.is_some_and(|level| *level <= PURE_LEVEL_MAX)
            && !IMPURE_HOMES.iter().any(|home| is_at(&source.name, home))
    };
    let mut breaches = Vec::new();
    for source in sources.iter().filter(is_pure) {
        for word in IMPURE {
            let found = source.code.match_indices(word).map(|(position, _)| line_of(&source.code, position));
            breaches.extend(found.map(|line| format!("{}:{line}: {word}", source.name)));
        }
    }
    assert_none("a clock, thread, socket, file or setting is reached from levels 0 to 3", &breaches);
}

#[test]
fn files_say_what_they_are_for_and_stay_readable() {
    let mut breaches = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            breaches.push(format!("{}: does not open with `//!`", source.name));
        }
        if source.lines > PRODUCTION_LINES_MAX {
            breaches.push(format!("{}: {} lines, more than {PRODUCTION_LINES_MAX}", source.name, source.lines));
        }
    }
    assert_none("a file lacks its purpose or has become too long", &breaches);
}

#[test]
fn nothing_unfinished_is_left() {
    let mut breaches = Vec::new();
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches"].map(|folder| root().join(folder)) {
        if folder.is_dir() {
            files(&folder, &mut paths);
        }
    }
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(path).expect("a source file is UTF-8");
        let banned = BANNED.iter().filter(|word| text.contains(**word));
        breaches.extend(banned.map(|word| format!("{}: {word}", path.display())));
    }
    assert_none("unfinished work", &breaches);
}

#[test]
fn every_error_code_has_a_page_with_its_title() {
    let pages = PAGES.iter().map(|(code, _)| code.to_string());
    let known: BTreeSet<String> = pages.collect();
    assert_eq!(known.len(), PAGES.len(), "a code stands twice");
    let mut breaches = Vec::new();
    for (code, page) in PAGES {
        let title = page.lines().next().unwrap_or_default();
        if title.strip_prefix(&format!("# {code}: ")).is_none_or(str::is_empty) {
            breaches.push(format!("{code}: the first line of its page is `{title}`"));
        }
    }
    let mut paths = Vec::new();
    files(&root().join("docs/errors"), &mut paths);
    for path in paths {
        let name = path.file_stem().expect("a page has a name").to_string_lossy().into_owned();
        if !known.contains(&name) {
            breaches.push(format!("{}: no such code in src/error.rs", path.display()));
        }
    }
    assert_none("codes and pages in docs/errors differ", &breaches);
}

#[test]
fn nothing_of_one_machine_is_in_the_tree() {
    let mut paths = Vec::new();
    files(root(), &mut paths);
    let mut breaches = Vec::new();
    for path in paths.iter().filter(|path| !path.ends_with("Cargo.lock")) {
        // What is not text has no lines to look at.
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (index, line) in text.lines().enumerate() {
            let found = MACHINE.iter().filter(|word| line.contains(**word));
            breaches.extend(found.map(|word| format!("{}:{}: {word}", path.display(), index + 1)));
        }
    }
    assert_none("a path of one machine or a package registry's host is named", &breaches);
}

#[test]
fn the_layer_table_is_read_as_it_is_meant() {
    let table = "//! L3  entity → operator;  task → operator, entity;  operator → store; assign\n\
                 //! L1  expr, avro      and a remark\n//! L0  base (ids, time) → error;  limits\n";
    let layers = Layers::parse(table);
    assert_eq!(
        layers.level.keys().collect::<Vec<_>>(),
        ["assign", "avro", "base", "entity", "error", "expr", "limits", "operator", "store", "task"]
    );
    for (importer, imported) in
        [("task", "entity"), ("entity", "store"), ("store", "avro"), ("base", "error"), ("assign", "limits")]
    {
        assert!(layers.allows(importer, imported), "{importer} → {imported}");
    }
    for (importer, imported) in
        [("operator", "entity"), ("assign", "store"), ("expr", "avro"), ("avro", "task"), ("error", "base")]
    {
        assert!(!layers.allows(importer, imported), "{importer} → {imported}");
    }
}

#[test]
fn imports_are_found_in_code_and_not_in_comments_or_strings() {
    let text = "use crate::{avro::{self, plan}, base::time, \n limits};\n// crate::cli\nlet a = \"crate::\\\"http\"; let b = r#\"crate::dev\"#;\n\
                let quote = '\"'; crate::expr::parse(); $crate::entity::x; other_crate::task;\n\
                #[cfg(test)]\nmod one;\n#[cfg(test)]\n#[path = \"two_tests.rs\"]\nmod tests;\n\
                #[cfg(test)]\nmod tests {\n use crate::runtime; let brace = '}'; }\nuse crate::store;\n";
    let source = Source::new("plan/mod", text.to_owned());
    let found: Vec<String> = imports(&source.code).into_iter().map(|(line, name)| format!("{line} {name}")).collect();
    assert_eq!(found, ["1 avro", "1 base", "1 limits", "5 expr", "14 store"]);
    assert_eq!(source.lines, 11);
    assert_eq!(test_modules(&source), ["plan/one", "plan/two_tests"]);
    assert_eq!(test_modules(&Source::new("plan/split", text.to_owned())), ["plan/split/one", "plan/two_tests"]);
    assert_eq!(
        mentions("use toml;\nuse toml::Value;\ncrate::toml::x; my_toml::y; a(toml::from_str)", "toml"),
        [1, 2, 3]
    );
}
