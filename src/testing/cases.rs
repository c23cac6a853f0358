//! Table tests: one test for several rows of values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::file::{Data, DeadLetter, Expected, Moment, Step, Test, TestFile, Then};

/// A test with its case's values in place.
#[derive(Clone, Debug)]
pub struct Case {
    pub path: PathBuf,
    /// The test's name, and its case's values where it has cases.
    pub name: String,
    pub test: Test,
}

impl TestFile {
    /// Returns every test once for each of its cases.
    ///
    /// # Errors
    /// A test names a value that a case of it does not have.
    pub fn cases(&self) -> Result<Vec<Case>, String> {
        let mut cases = Vec::new();
        for test in &self.tests {
            let test = &self.with_defaults(test);
            if test.cases.is_empty() {
                cases.push(Case { path: self.path.clone(), name: test.name.clone(), test: test.clone() });
            }
            for values in &test.cases {
                let said: Vec<String> = values.iter().map(|(name, value)| format!("{name} = {}", value.0)).collect();
                let name = format!("{} [{}]", test.name, said.join(", "));
                let mut filled = test.clone();
                Filling { values }
                    .test(&mut filled)
                    .map_err(|problem| format!("{}: {name}: {problem}", self.path.display()))?;
                cases.push(Case { path: self.path.clone(), name, test: filled });
            }
        }
        Ok(cases)
    }
}

impl TestFile {
    /// Gives events the fields that they do not name.
    fn with_defaults(&self, test: &Test) -> Test {
        let mut test = test.clone();
        for step in test.given.iter_mut().chain(&mut test.when) {
            let names = [&step.command, &step.event_type, &step.node, &step.topic];
            let defaults = names.into_iter().flatten().find_map(|name| self.defaults.get(name));
            if let (Some(Data(Json::Object(defaults))), Some(Data(Json::Object(fields)))) = (defaults, &mut step.value)
            {
                for (name, value) in defaults {
                    if !fields.contains_key(name) {
                        fields.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        test
    }
}

struct Filling<'a> {
    values: &'a BTreeMap<String, Data>,
}

type Filled = Result<(), String>;

impl Filling<'_> {
    fn json(&self, json: &mut Json) -> Filled {
        match json {
            Json::String(text) => {
                if let Some(name) = text.strip_prefix('$') {
                    let value = self.values.get(name);
                    *json = value.ok_or_else(|| format!("the case has no value `{name}`"))?.0.clone();
                }
                Ok(())
            }
            Json::Array(items) => items.iter_mut().try_for_each(|item| self.json(item)),
            Json::Object(fields) => fields.values_mut().try_for_each(|field| self.json(field)),
            Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
        }
    }

    fn data(&self, data: &mut Option<Data>) -> Filled {
        data.iter_mut().try_for_each(|data| self.json(&mut data.0))
    }

    fn moment(&self, moment: &mut Option<Moment>) -> Filled {
        moment.iter_mut().try_for_each(|moment| self.json(&mut moment.0))
    }

    fn test(&self, test: &mut Test) -> Filled {
        self.moment(&mut test.clock)?;
        test.given.iter_mut().chain(&mut test.when).try_for_each(|step| self.step(step))?;
        self.then(&mut test.then)
    }

    fn text(&self, text: &mut Option<String>) -> Filled {
        let Some(name) = text.as_deref().and_then(|text| text.strip_prefix('$')) else { return Ok(()) };
        let value = self.values.get(name).and_then(|value| value.0.as_str());
        *text = Some(value.ok_or_else(|| format!("the case has no text `{name}`"))?.to_owned());
        Ok(())
    }

    fn step(&self, step: &mut Step) -> Filled {
        self.text(&mut step.command)?;
        self.text(&mut step.event_type)?;
        self.data(&mut step.key)?;
        self.data(&mut step.value)?;
        self.data(&mut step.id)?;
        self.data(&mut step.expected_version)?;
        self.data(&mut step.advance)?;
        self.moment(&mut step.at)
    }

    fn then(&self, then: &mut Then) -> Filled {
        then.outputs.values_mut().flatten().try_for_each(|expected| self.expected(expected))?;
        then.state.values_mut().flat_map(BTreeMap::values_mut).try_for_each(|row| self.json(&mut row.0))?;
        let said = [&mut then.replies, &mut then.refusals, &mut then.events];
        said.into_iter().flat_map(BTreeMap::values_mut).flatten().try_for_each(|said| self.json(&mut said.0))?;
        let versions = then.history.values_mut().flat_map(BTreeMap::values_mut).flatten();
        versions.into_iter().try_for_each(|version| self.json(&mut version.0))?;
        then.dead_letters.values_mut().flatten().try_for_each(|DeadLetter { key, .. }| self.data(key))
    }

    fn expected(&self, expected: &mut Expected) -> Filled {
        self.data(&mut expected.key)?;
        self.data(&mut expected.event_type)?;
        self.data(&mut expected.value)?;
        self.moment(&mut expected.at)?;
        self.moment(&mut expected.window)?;
        expected.headers.values_mut().try_for_each(|value| self.json(&mut value.0))
    }
}
