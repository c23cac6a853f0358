//! What an instance says of itself, and its form in the topic: JSON, so that people can read it, keyed by the instance's id. A record
//! without value says that the instance has left.
//!
//! Fields are only ever added; who does not know one passes it over. What could not be read that way would be another format.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::ids::TaskId;

/// The format that is written. A record of another one is not read.
const FORMAT: u32 = 1;

/// What an instance says of itself. When it said so, and that it lives, is what the broker's time of the record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its name; stable across restarts, unique in the application.
    pub instance: String,
    /// `host:port` of its listener for reads; none before it listens.
    pub http: Option<String>,
    /// The topology's fingerprint, as `/v1/topology` shows it.
    pub fingerprint: String,
    /// tidemill's version.
    pub version: String,
    /// Stream threads: so often is it a member of the consumer group, as `<instance>-<thread>`.
    pub threads: usize,
    /// It processes, or claims that it may: while one of another shape does, it waits.
    pub processes: bool,
    /// The offset of the word by which it claimed that; none in that word itself.
    pub claim: Option<i64>,
    /// Tasks that the group has given it.
    pub active: BTreeSet<TaskId>,
    /// Tasks whose changelogs it follows for others.
    pub standby: BTreeMap<TaskId, Standby>,
}

/// How far a standby is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Offsets of the changelogs that it has not read yet, as it knows; none before it has looked.
    pub behind: Option<u64>,
}

/// The form in the topic.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    #[serde(default)]
    http: Option<String>,
    #[serde(default)]
    fingerprint: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    threads: usize,
    /// A version that does not say so knows of no waiting.
    #[serde(default = "yes")]
    processes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<i64>,
    #[serde(default)]
    active: BTreeSet<String>,
    #[serde(default)]
    standby: BTreeMap<String, Standby>,
}

impl Announcement {
    /// Returns the record's value; its key is the instance's id.
    pub fn encode(&self) -> Vec<u8> {
        let written = Written {
            format: FORMAT,
            http: self.http.clone(),
            fingerprint: self.fingerprint.clone(),
            version: self.version.clone(),
            threads: self.threads,
            processes: self.processes,
            claim: self.claim,
            active: self.active.iter().map(TaskId::to_string).collect(),
            standby: self.standby.iter().map(|(task, standby)| (task.to_string(), *standby)).collect(),
        };
        serde_json::to_vec(&written).expect("maps of text are JSON")
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// It is no announcement, or one of a format that this version does not know.
    pub fn decode(instance: &str, bytes: &[u8]) -> Result<Self, String> {
        let form: Form = serde_json::from_slice(bytes).map_err(|error| format!("no announcement: {error}"))?;
        if form.format != FORMAT {
            return Err(format!("it has format {}, this version reads {FORMAT}", form.format));
        }
        let written: Written = serde_json::from_slice(bytes).map_err(|error| format!("no announcement: {error}"))?;
        let task = |text: &str| TaskId::parse(text).ok_or_else(|| format!("`{text}` is no task"));
        Ok(Self {
            instance: instance.to_owned(),
            http: written.http,
            fingerprint: written.fingerprint,
            version: written.version,
            threads: written.threads,
            processes: written.processes,
            claim: written.claim,
            active: written.active.iter().map(|text| task(text)).collect::<Result<_, _>>()?,
            standby: written
                .standby
                .into_iter()
                .map(|(text, standby)| Ok((task(&text)?, standby)))
                .collect::<Result<_, String>>()?,
        })
    }

    /// Tells whether it says something else than how far standbys are, which alone is not worth a record.
    pub fn differs_from(&self, said: &Self) -> bool {
        let without_distance = |all: &Self| Self {
            standby: all.standby.keys().map(|task| (task.clone(), Standby::default())).collect(),
            ..all.clone()
        };
        without_distance(self) != without_distance(said)
    }
}

fn yes() -> bool {
    true
}

/// What every format has.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn said() -> Announcement {
        Announcement {
            instance: "a".to_owned(),
            http: Some("10.0.0.1:7400".to_owned()),
            fingerprint: "00112233aabbccdd".to_owned(),
            version: "0.1.0".to_owned(),
            threads: 2,
            processes: true,
            claim: Some(5),
            active: [TaskId::new("totals", 0), TaskId::new("order_items", 3)].into(),
            standby: [(TaskId::new("totals", 1), Standby { behind: Some(7) })].into(),
        }
    }

    #[test]
    fn what_is_written_can_be_read_by_people_and_comes_back() {
        let bytes = said().encode();
        expect![[r#"{"format":1,"http":"10.0.0.1:7400","fingerprint":"00112233aabbccdd","version":"0.1.0","threads":2,"processes":true,"claim":5,"active":["order_items_3","totals_0"],"standby":{"totals_1":{"behind":7}}}"#]]
        .assert_eq(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(Announcement::decode("a", &bytes).unwrap(), said());
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over_and_another_format_is_refused() {
        let read = Announcement::decode("b", br#"{"format":1,"colour":"blue","threads":3,"standby":{"t_0":{"x":1}}}"#);
        let read = read.unwrap();
        assert_eq!((read.threads, read.standby.len(), read.http), (3, 1, None));
        assert_eq!((read.processes, read.claim), (true, None));
        for (bytes, why) in [
            (&br#"{"format":2,"threads":"many"}"#[..], "format 2"),
            (b"{}", "no announcement"),
            (b"\x00\x01", "no announcement"),
            (br#"{"format":1,"active":["t"]}"#, "`t` is no task"),
        ] {
            let error = Announcement::decode("b", bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn how_far_standbys_are_is_no_news() {
        let (before, mut after) = (said(), said());
        after.standby.insert(TaskId::new("totals", 1), Standby { behind: None });
        assert!(!after.differs_from(&before));
        after.standby.insert(TaskId::new("totals", 2), Standby { behind: None });
        assert!(after.differs_from(&before));
    }
}
