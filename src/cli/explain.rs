//! `explain`: the page of an error code.

use clap::Args;
use serde_json::json;

use super::output::{Form, Output};
use super::{Exit, Failure, table};
use crate::base::diag::nearest;
use crate::error::{self, codes};

/// Explain an error code, or list them all
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill explain E0201\n  tidemill explain")]
pub(crate) struct Explain {
    /// A code such as E0201; without it, all codes with their titles
    code: Option<String>,
}

pub(crate) fn run(command: &Explain, output: &mut Output) -> Result<Exit, Failure> {
    match &command.code {
        Some(code) => page(code, output),
        None => list(output),
    }
}

fn page(given: &str, output: &mut Output) -> Result<Exit, Failure> {
    let Some(page) = error::page(given) else {
        let help = match nearest(given, codes::PAGES.iter().map(|(code, _)| code.0)) {
            Some(near) => format!("did you mean `{near}`? `tidemill explain` lists all codes"),
            None => "`tidemill explain` lists all codes".to_owned(),
        };
        return Err(Failure::new(Exit::Findings, format!("there is no code `{given}`")).help(help));
    };
    match output.form() {
        Form::Text => output.line(page)?,
        Form::Json => {
            output.json(&json!({"code": given.to_uppercase(), "title": error::title(given), "page": page}))?
        }
    }
    Ok(Exit::Ok)
}

fn list(output: &mut Output) -> Result<Exit, Failure> {
    let titled = codes::PAGES.iter().map(|(code, _)| (code.0, error::title(code.0).unwrap_or_default()));
    match output.form() {
        Form::Json => {
            let all: Vec<_> = titled.map(|(code, title)| json!({"code": code, "title": title})).collect();
            output.json(&json!({ "codes": all }))?;
        }
        Form::Text => {
            let mut table = table::new(["code", "title"]);
            for (code, title) in titled {
                table.add_row(vec![code, title]);
            }
            output.line(table.to_string())?;
        }
    }
    Ok(Exit::Ok)
}
