//! Test results in JUnit's XML, which continuous integration servers read.

use std::fmt::Write as _;
use std::time::Duration;

use super::test::Ran;
use crate::testing::Outcome;

/// Makes the report: a suite for each file, in the tests' order.
pub(crate) fn report(ran: &[Ran], took: Duration) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failures = |of: &[&Ran]| of.iter().filter(|ran| ran.outcome != Outcome::Passed).count();
    let all: Vec<&Ran> = ran.iter().collect();
    let seconds = |took: Duration| format!("{:.3}", took.as_secs_f64());
    let mut write = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    write(format!("<testsuites tests=\"{}\" failures=\"{}\" time=\"{}\">", all.len(), failures(&all), seconds(took)));
    let mut files: Vec<&str> = ran.iter().map(|ran| ran.file.as_str()).collect();
    files.dedup();
    for file in files {
        let suite: Vec<&Ran> = ran.iter().filter(|ran| ran.file == file).collect();
        let name = escaped(file);
        write(format!("  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\">", suite.len(), failures(&suite)));
        for ran in suite {
            let case = format!(
                "<testcase classname=\"{name}\" name=\"{}\" time=\"{}\"",
                escaped(&ran.name),
                seconds(ran.took)
            );
            let problems = ran.problems();
            match problems.first() {
                None => write(format!("    {case}/>")),
                Some(first) => write(format!(
                    "    {case}><failure message=\"{}\">{}</failure></testcase>",
                    escaped(first),
                    escaped(&problems.join("\n"))
                )),
            }
        }
        write("  </testsuite>".to_owned());
    }
    write("</testsuites>".to_owned());
    text
}

/// Text as XML takes it; characters that XML does not have at all become `?`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => drop(write!(escaped, "&#{};", u32::from(c))),
            c if c.is_control() => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_files_tests_and_what_went_wrong() {
        let ran = |name: &str, outcome| Ran {
            file: "a.test.toml".to_owned(),
            name: name.to_owned(),
            outcome,
            took: Duration::from_millis(2),
        };
        let ran =
            [ran("one", Outcome::Passed), ran("a < b", Outcome::Failed(vec!["x: expected \"1\", found 2".to_owned()]))];
        let wanted = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="2" failures="1" time="0.010">
  <testsuite name="a.test.toml" tests="2" failures="1">
    <testcase classname="a.test.toml" name="one" time="0.002"/>
    <testcase classname="a.test.toml" name="a &lt; b" time="0.002"><failure message="x: expected &quot;1&quot;, found 2">x: expected &quot;1&quot;, found 2</failure></testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(report(&ran, Duration::from_millis(10)), wanted);
    }
}
