//! How a program ended.

use std::process::{Command, Output};

/// How a program ended.
#[derive(Debug)]
pub struct Done {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Done {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    /// The kinds of the messages that it logged as JSON, in their order.
    pub fn kinds(&self) -> Vec<String> {
        let lines = self.err.lines();
        let objects = lines.filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        let kinds = objects.filter_map(|o| Some(o["kind"].as_str()?.to_owned()));
        kinds.collect()
    }

    /// Fails unless a message of this kind was logged.
    pub fn says(&self, kind: &str) -> Result<(), String> {
        self.check(
            self.kinds().iter().any(|k| k == kind),
            &format!("no message of kind {kind}"),
        )
    }

    /// Runs a program in the namespaces of the tests themselves.
    pub fn of(command: &mut Command) -> Self {
        let output = command.output();
        output
            .unwrap_or_else(|e| panic!("cannot start {:?}: {e}", command.get_program()))
            .into()
    }

    /// Fails with everything there is to know unless the exit status is `code`.
    pub fn expect(self, code: i32, what: &str) -> Result<Self, String> {
        match self.code == Some(code) {
            true => Ok(self),
            false => Err(self.with_output(&format!("{what}: exit {:?}, not {code}", self.code))),
        }
    }

    /// Fails with everything there is to know unless `holds`.
    pub fn check(&self, holds: bool, what: &str) -> Result<(), String> {
        match holds {
            true => Ok(()),
            false => Err(self.with_output(&format!("{what}: exit {:?}", self.code))),
        }
    }

    /// What it wrote to stdout; a panic unless it succeeded.
    #[track_caller]
    pub fn must(self, what: &str) -> String {
        self.expect(0, what).unwrap_or_else(|e| panic!("{e}")).out
    }

    /// The same, if the exit status is `code`; a panic otherwise.
    #[track_caller]
    pub fn must_exit(self, code: i32, what: &str) -> Self {
        self.expect(code, what).unwrap_or_else(|e| panic!("{e}"))
    }

    fn with_output(&self, what: &str) -> String {
        format!("{what}\n{}{}", self.out, self.err)
    }
}
