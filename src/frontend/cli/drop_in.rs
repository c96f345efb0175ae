//! Command lines of tools that this program stands in for, exactly as those tools have them: one
//! file and one row each.
//!
//! Such a line is read when the program is called by one of the tool's names, or behind one of them
//! as a word: `prepare-proxy istio-iptables …`. Before that word only an action (`prepare-proxy diff
//! istio-iptables …`) and general options may stand: those of the mesh belong to the tool's line,
//! which would not see them there.

use super::{Cli, Line, hint, invalid, istio_iptables, program, proxy_init};
use crate::engine::exit::Exit;
use crate::mesh::config::{Host, Opt, Options};
use crate::mesh::{self, Mesh};
use clap::{ArgMatches, Command, Error};
use std::ffi::OsString;

/// One tool's command line.
pub(super) struct DropIn {
    /// Whose rules the tool writes. The names that it is called by are the mesh's
    /// [`called`](crate::mesh::config::Profile::called), the first one is shown.
    pub mesh: &'static Mesh,
    /// Its names for our options, where they are not [`alias`](crate::mesh::config::Spec::alias): both are
    /// taken on our own command line too.
    pub names: &'static [(Opt, &'static str)],
    /// Whether it only knows the exit statuses 0 and 1.
    pub fails_with_1: bool,
    /// Its flags; name and version are set here.
    pub command: fn(Command) -> Command,
    /// What the flags ask for, on top of what was said before the tool's name.
    pub read: fn(Cli, &ArgMatches, &dyn Host) -> Result<Cli, Error>,
}

/// Every tool with a command line of its own.
pub(super) static DROP_INS: [DropIn; 2] = [
    DropIn {
        mesh: &mesh::ISTIO,
        names: &[],
        fails_with_1: false,
        command: istio_iptables::command,
        read: istio_iptables::read,
    },
    DropIn {
        mesh: &mesh::LINKERD,
        names: proxy_init::NAMES,
        fails_with_1: true,
        command: proxy_init::command,
        read: proxy_init::read,
    },
];

/// The exit status that a command line ends with, in the numbers of the tool that it calls. An action
/// that the tool has not keeps its own.
pub fn exit_as_called(args: &[OsString], exit: Exit) -> Exit {
    let calls = |c: Call| c.drop_in.fails_with_1 && c.before.0.action.is_none();
    match exit != Exit::Done && Call::find(args).is_some_and(calls) {
        true => Exit::Failed,
        false => exit,
    }
}

/// A drop-in that was called.
pub(super) struct Call<'a> {
    drop_in: &'static DropIn,
    /// As it was called: for the usage.
    name: String,
    /// What stands before the tool's name.
    before: (Line, Options),
    flags: &'a [OsString],
}

impl<'a> Call<'a> {
    /// The drop-in that these arguments call, if they call one: by the program's name, or by the
    /// first word that is one of its names and is not the value of an option.
    pub(super) fn find(args: &'a [OsString]) -> Option<Self> {
        let by_name = program(args.first()).and_then(named);
        let words = args.iter().enumerate().skip(1);
        let mut by_word = words.filter_map(|(at, word)| {
            let drop_in = named(word.to_str()?)?;
            Some((drop_in, at, Line::read(&args[..at]).ok()?))
        });
        let (drop_in, at, before) = match by_word.next() {
            Some(call) => call,
            None => (by_name?, 0, Line::read(&args[..1]).ok()?),
        };
        let name = drop_in.mesh.profile.called[0];
        Some(Call {
            drop_in,
            name: match by_name {
                Some(_) => name.to_owned(),
                None => format!("prepare-proxy {name}"),
            },
            before,
            flags: &args[at + 1..],
        })
    }

    /// Reads the whole line. Before the tool's name nothing may stand that belongs to its flags.
    pub(super) fn read(self, host: &dyn Host) -> Result<Cli, Error> {
        let (line, options) = self.before;
        if let Some(surplus) = surplus(&line, &options) {
            let problem = format!(
                "cannot stand before {}, whose flags come behind it",
                self.drop_in.mesh.profile.called[0]
            );
            return Err(invalid(&surplus, problem));
        }
        let command = self.drop_in.command().no_binary_name(true);
        let command = command.bin_name(self.name);
        let matches = command.clone().try_get_matches_from(self.flags);
        let matches = matches.map_err(|e| hint::improve(e, self.flags, &command, host))?;
        let before = line.cli(Some(self.drop_in.mesh), options);
        (self.drop_in.read)(before, &matches, host)
    }
}

/// What is said before a tool's name and does not belong there.
fn surplus(line: &Line, options: &Options) -> Option<String> {
    let mesh = line.general.mesh.map(|_| "--mesh".to_owned());
    let option = || options.iter().next().map(ToString::to_string);
    mesh.or_else(option)
}

fn named(name: &str) -> Option<&'static DropIn> {
    let called = |d: &&DropIn| d.mesh.profile.called.contains(&name);
    DROP_INS.iter().find(called)
}

impl DropIn {
    /// The whole command line, for help, man page and completions.
    pub(super) fn command(&self) -> Command {
        let command = Command::new(self.mesh.profile.called[0])
            .version(env!("CARGO_PKG_VERSION"))
            .max_term_width(100)
            .args_override_self(true);
        (self.command)(command)
    }
}
