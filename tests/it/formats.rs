//! Bytes at rest of every format version that was ever released: state folders with the topics they belong to, kept in `tests/bytes`.
//! This build opens each of them, finds everything that was there, goes on with it, and can make the state anew from the changelogs.
//! `make formats` makes the one of today's version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidemill::store::format::STATE_FORMAT;

use crate::support::preload::{self, Environment};
use crate::support::shop::{self, Answers};
use crate::support::{App, Launch, Place, topics};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bytes");

/// Orders that were worked off when the bytes were kept, and those that come afterwards.
const BEFORE: usize = 400;
const AFTER: usize = 200;

fn shop_at(folder: tempfile::TempDir) -> App {
    App { folder, id: "kept".to_owned(), place: Place::Embedded }
}

fn tar(arguments: &[&str], file: &Path, folder: &Path) {
    let status = Command::new("tar").args(arguments).arg(file).arg("-C").arg(folder).arg(".").status().unwrap();
    assert!(status.success(), "{}", file.display());
}

#[test]
#[ignore = "by `make formats`, once for each version of the formats"]
fn bytes_of_today_are_kept() {
    let app = shop_at(tempfile::tempdir().unwrap());
    fs::create_dir_all(app.folder.path().join("topology")).unwrap();
    app.rewrite(shop::TOPOLOGY);
    for (name, text) in shop::SCHEMAS {
        fs::write(app.folder.path().join("topology").join(name), text).unwrap();
    }
    topics::create(&*app.broker(), &app.topic("orders"), shop::PARTITIONS, &[]);
    let orders = shop::orders(BEFORE);
    shop::place_orders(&app, &orders);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    run.stop();
    fs::create_dir_all(FOLDER).unwrap();
    let file = PathBuf::from(FOLDER).join(format!("state-format-{STATE_FORMAT}.tar.gz"));
    // RocksDB's own logs say nothing about formats.
    tar(&["--exclude=LOG*", "-czf"], &file, app.folder.path());
}

fn kept() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".tar.gz"));
    files.sort();
    files
}

/// State and topics as they were kept, and a clock that goes on from then: state that was away for longer than tombstones stay readable is
/// restored, whatever its format.
fn unpacked(file: &Path) -> (App, Environment) {
    let folder = tempfile::tempdir().unwrap();
    tar(&["-xzf"], file, folder.path());
    let kept = fs::metadata(folder.path().join("data/broker/journal.log")).unwrap().modified().unwrap();
    let clock = preload::clock_from(kept, folder.path());
    (shop_at(folder), clock)
}

/// What was there is there; more orders are worked off upon it.
fn goes_on(app: &App, clock: &Environment) {
    let orders = shop::orders(BEFORE + AFTER);
    let environment: Vec<(&str, &str)> = clock.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let launch = Launch { environment: &environment, ..Launch::default() };
    let mut run = app.start(&launch);
    shop::wait_for(app, &mut run, &Answers::of(&orders[..BEFORE]));
    shop::assert_no_store_was_set_aside(&run.stop());
    shop::place_orders(app, &orders[BEFORE..]);
    let mut run = app.start(&launch);
    shop::wait_for(app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn state_of_every_format_version_opens_and_goes_on() {
    let files = kept();
    let of_today = format!("state-format-{STATE_FORMAT}.tar.gz");
    assert!(files.iter().any(|path| path.ends_with(&of_today)), "`make formats` keeps {of_today}");
    for file in files {
        let (app, clock) = unpacked(&file);
        goes_on(&app, &clock);
    }
}

#[test]
fn changelogs_of_every_format_version_give_the_state_back() {
    for file in kept() {
        let (app, clock) = unpacked(&file);
        fs::remove_dir_all(app.state("a")).unwrap();
        goes_on(&app, &clock);
    }
}

#[test]
fn state_that_was_away_for_longer_than_tombstones_stay_is_restored() {
    let (app, _) = unpacked(&kept()[0]);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&shop::orders(BEFORE)));
    let said = run.stop();
    assert!(said.contains(r#""reason":"too_old""#), "{said}");
}
