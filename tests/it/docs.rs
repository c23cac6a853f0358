//! The language's documentation: its examples pass their own tests, and what it shows of them is what they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn language() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/language")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn every_example_passes_its_own_tests() {
    let mut tests = 0;
    for folder in entries(&language().join("examples")) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tidemill")).arg("test").arg(&folder).arg("--json").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {text}", folder.display());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        tests += report["passed"].as_u64().unwrap();
    }
    assert!(tests >= 40, "{tests} tests");
}

#[test]
fn every_excerpt_stands_in_its_file() {
    let mut excerpts = 0;
    for page in entries(&language()).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(path) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else { continue };
            let file = fs::read_to_string(language().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let fence = lines.find(|line| !line.trim().is_empty()).unwrap();
            assert!(fence.starts_with("```"), "{}: no code after `{line}`", page.display());
            let excerpt: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            let excerpt = excerpt.join("\n");
            assert!(file.contains(excerpt.trim()), "{}: not in {path}:\n{excerpt}", page.display());
            excerpts += 1;
        }
    }
    assert!(excerpts >= 25, "{excerpts} excerpts");
}

/// What stands between backquotes on a page and names a test: `module::test`, the module one of `tests/it`, a folder of `tests`, or of `src`,
/// then with its path.
fn named_tests(page: &str) -> Vec<(String, String)> {
    let quoted = page.split('`').skip(1).step_by(2);
    let named = quoted.filter_map(|text| text.rsplit_once("::"));
    let named = named.filter(|(module, test)| {
        [module, test].iter().all(|part| part.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':'))
    });
    named.map(|(module, test)| (module.to_owned(), test.to_owned())).collect()
}

#[test]
fn every_failure_mode_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/operations/failure-modes.md")).unwrap();
    let named = named_tests(&page);
    assert!(named.len() >= 30, "{named:?}");
    for (module, test) in &named {
        let of_source = module.strip_suffix("::tests").map(|module| format!("src/{}.rs", module.replace("::", "/")));
        let files = [Some(format!("tests/it/{module}.rs")), Some(format!("tests/{module}/mod.rs")), of_source];
        let text = files.iter().flatten().find_map(|file| fs::read_to_string(root.join(file)).ok());
        let text = text.unwrap_or_else(|| panic!("there is no module `{module}`"));
        let there = text.lines().zip(text.lines().skip(1)).any(|(attribute, function)| {
            attribute.trim() == "#[test]" && function.trim().starts_with(&format!("fn {test}()"))
        });
        assert!(there, "{module} has no test `{test}`");
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault"));
    for row in rows {
        assert!(!named_tests(row).is_empty(), "no test stands behind: {row}");
    }
}
