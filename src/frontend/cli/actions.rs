//! The actions as words of the command line, with their own options.

use super::general::duration;
use crate::actions::{Action, apply, diff, differences, explain, status, verify, watch};
use crate::mesh::config::parse_port;
use crate::netfilter::model::{ConnState, FoundSocket};
use clap::{Args, Command, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
use std::time::Duration;

/// Redirect a pod's or VM's TCP traffic to its sidecar proxy
// The doc comment of an enum that derives Subcommand becomes the description of the program: it must
// be that of the program.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Word {
    /// Install the rules (default); no-op if they are installed already
    Apply,
    /// Remove all managed rules, whatever installed them
    Clean,
    /// Show what an apply would change, in the rules or for connections
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Comparison),
    /// Explain which connections are captured, or what happens to one, rule by rule
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Question),
    /// Show what is installed, whether it is in force, and what it captures
    #[command(name = "status", visible_alias = "show", after_help = STATUS_EXAMPLES)]
    Status(Shown),
    /// Verify with real connections that the redirection holds
    Verify(Probes),
    /// Apply, keep running, and restore rules that other programs remove (for VMs)
    Watch(Watching),
    /// Print a completion script for a shell
    Completions {
        #[arg(ignore_case = true)]
        shell: Shell,
    },
}

/// Adds an action's own options to it.
type OwnOptions = fn(Command) -> Command;

/// The actions that somebody waits for, with their own options. To build all of [`Word`] takes as long
/// as writing the rules: clap builds every action in one go.
pub(super) const FREQUENT: &[(&str, OwnOptions)] = &[
    ("apply", std::convert::identity),
    ("clean", std::convert::identity),
    ("diff", Comparison::augment_args),
    ("explain", Question::augment_args),
    ("status", Shown::augment_args),
    ("verify", Probes::augment_args),
    ("watch", Watching::augment_args),
];

impl Word {
    /// Whether the answer alone is printed.
    pub(super) fn is_short(&self) -> bool {
        matches!(self, Word::Explain(question) if question.short)
    }

    /// Whether the rules in the kernel are asked for, instead of those of options.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Word::Explain(question) if question.live)
    }

    /// The action; completions are none. A dry run of another action than apply and clean is that
    /// action.
    pub(super) fn into_action(self, dry_run: bool) -> Action {
        let apply = apply::Options::default();
        match self {
            Word::Apply | Word::Watch(_) if dry_run => Action::DryRun(apply),
            Word::Apply | Word::Completions { .. } => Action::Apply(apply),
            Word::Clean if dry_run => Action::CleanDryRun,
            Word::Clean => Action::Clean,
            Word::Diff(comparison) => match comparison.connections {
                false => Action::Diff(diff::Options {
                    strict: comparison.strict,
                }),
                true => Action::Differences(differences::Options {
                    against: comparison.against,
                    local_addresses: comparison.local_address,
                }),
            },
            Word::Explain(question) => question.into(),
            Word::Status(shown) => Action::Status(status::Options { rules: shown.rules }),
            Word::Verify(probes) => Action::Verify(verify::Options {
                probe_port: probes.probe_port,
                probe_timeout: probes.probe_timeout,
            }),
            Word::Watch(options) => Action::Watch(watch::Options {
                interval: options.interval,
                wait: options.wait,
            }),
        }
    }
}

const DIFF_EXAMPLES: &str = "\
Examples:
  prepare-proxy diff --mesh istio -i '*' -b '*'
      What an apply would change in the rules
  prepare-proxy diff --connections --mesh istio -i '*' -b '*'
      Which connections it would treat differently
  prepare-proxy diff --connections --against old.rules --mesh istio -i '*' -b '*'
      The same for rules in a file; needs no privilege

Exit status: 0 no difference, 1 a difference, 2 cannot be determined";

/// The options of `diff`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(super) struct Comparison {
    /// Compare what happens to connections instead of rules
    #[arg(long)]
    connections: bool,

    /// End with status 1 also for foreign rules that take precedence
    #[arg(long, conflicts_with = "connections")]
    strict: bool,

    /// Compare with rules that iptables-save, ip6tables-save, nft list ruleset or a dry run
    /// (restore, nft or json) has printed, instead of those installed
    #[arg(long, value_name = "FILE", requires = "connections")]
    against: Option<PathBuf>,

    /// Address of the pod or VM, on eth0 or the interface named; may be repeated [default: those of
    /// this network namespace]
    #[arg(
        long,
        value_name = "ADDRESS[/LENGTH][%INTERFACE]",
        value_delimiter = ',',
        requires = "against"
    )]
    local_address: Vec<String>,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  prepare-proxy explain --mesh istio -i '*' -b '*' --local-address 10.244.1.17/24
      Who goes through the proxy and who does not, as a table; needs no privilege
  prepare-proxy explain --live
      The same from the rules in the kernel, foreign ones included
  prepare-proxy explain --format mermaid --mesh istio -i '*' -b '*'
      The rules as a flow chart
  prepare-proxy explain --to 10.96.7.1:80 --user 1000 --mesh istio -i '*' -b '*'
      What happens to one connection, rule by rule";

/// The options of `explain`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The connection")]
pub(super) struct Question {
    /// Destination of one connection [default: all connections]
    #[arg(value_name = "ADDRESS:PORT", group = "destination")]
    connection: Option<String>,

    /// Destination of one connection, as an option
    #[arg(long, value_name = "ADDRESS:PORT", group = "destination")]
    to: Option<String>,

    /// Sender, a local process: numbers or names; supplementary groups come last
    #[arg(long, value_name = "UID[:GID[,GID...]]", requires = "destination")]
    user: Option<String>,

    /// Source address; the connection comes from outside, unless --user is given or the address is local
    #[arg(long, value_name = "ADDRESS[:PORT]", requires = "destination")]
    from: Option<String>,

    /// Interface that it comes in through [default: the one with the destination address]
    #[arg(long, value_name = "NAME", requires = "destination")]
    interface: Option<String>,

    /// UDP instead of TCP
    #[arg(long, requires = "destination")]
    udp: bool,

    /// State in conntrack
    #[arg(
        long,
        value_name = "STATE",
        value_enum,
        ignore_case = true,
        default_value_t,
        requires = "destination"
    )]
    ct_state: State,

    /// Packet mark, decimal or 0x...
    #[arg(
        long,
        value_name = "MARK",
        default_value = "0",
        requires = "destination"
    )]
    mark: String,

    /// Conntrack mark of its connection, decimal or 0x...
    #[arg(
        long,
        value_name = "MARK",
        default_value = "0",
        requires = "destination"
    )]
    ct_mark: String,

    /// Open socket, bound to one address, that -m socket finds
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        default_value_t,
        requires = "destination"
    )]
    socket: Socket,

    /// Address of the pod or VM, on eth0 or the interface named; may be repeated [default: those of
    /// this network namespace]
    #[arg(
        long,
        value_name = "ADDRESS[/LENGTH][%INTERFACE]",
        value_delimiter = ','
    )]
    local_address: Vec<String>,

    /// Follow the rules in the kernel, whoever wrote them [default where no option of a mesh is given]
    #[arg(long, conflicts_with = "local_address")]
    live: bool,

    /// Print the answer alone, in one sentence
    #[arg(long, requires = "destination")]
    short: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum State {
    #[default]
    New,
    Related,
    Established,
    Invalid,
    Untracked,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Socket {
    #[default]
    None,
    Plain,
    Transparent,
}

impl From<Question> for Action {
    fn from(question: Question) -> Self {
        let Some(to) = question.connection.or(question.to) else {
            return Action::Connections(explain::connections::Options {
                local_addresses: question.local_address,
                live: question.live,
            });
        };
        Action::Explain(explain::Question {
            to,
            user: question.user,
            from: question.from,
            interface: question.interface,
            udp: question.udp,
            state: match question.ct_state {
                State::New => ConnState::New,
                State::Related => ConnState::Related,
                State::Established => ConnState::Established,
                State::Invalid => ConnState::Invalid,
                State::Untracked => ConnState::Untracked,
            },
            mark: question.mark,
            ct_mark: question.ct_mark,
            socket: match question.socket {
                Socket::None => FoundSocket::None,
                Socket::Plain => FoundSocket::Plain,
                Socket::Transparent => FoundSocket::Transparent,
            },
            local_addresses: question.local_address,
            live: question.live,
        })
    }
}

const STATUS_EXAMPLES: &str = "\
Examples:
  prepare-proxy status
      What is captured and exempt here, and whether a watch keeps it
  prepare-proxy status --rules
      The same with every managed rule and its counters

Exit status: 0 installed and in force, 1 not, 2 cannot be determined";

/// The options of `status`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Status")]
pub(super) struct Shown {
    /// List every managed rule with its counters
    #[arg(long)]
    rules: bool,
}

/// The options of `verify`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Probes")]
pub(super) struct Probes {
    /// Port that probes connect to where the rules name none
    #[arg(long, alias = "iptables-probe-port", value_name = "PORT",
        default_value_t = verify::Options::PORT, value_parser = port)]
    probe_port: u16,

    /// How long what does not hold is retried: 5s, 500ms, 1m
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    probe_timeout: Duration,
}

/// The options of `watch`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Watching")]
pub(super) struct Watching {
    /// How often to read iptables-legacy's tables, which raise no events, if they are in use
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    interval: Duration,

    /// Wait for another watch in this network namespace to end
    #[arg(long)]
    wait: bool,
}

fn port(text: &str) -> Result<u16, String> {
    parse_port(text).map_err(|e| e.to_string())
}

/// From a second to a day.
fn interval(text: &str) -> Result<Duration, String> {
    let allowed = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let interval = duration(text).ok().filter(|d| allowed.contains(d));
    interval.ok_or_else(|| "not a duration from 1s to 24h".to_owned())
}
