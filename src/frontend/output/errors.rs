//! Error messages: what failed, with the name of the option as typed, and the remedy.

use crate::engine::error::{Error, Grant, Left};
use crate::mesh::config::{ConfigError, Opt};
use crate::netfilter::backend::BackendError;
use crate::netfilter::model::Owner;

pub(in crate::frontend) fn log(error: &Error, hint: Option<String>) {
    let hint = hint.map_or(String::new(), |hint| format!("; {hint}"));
    log::error!(kind = kind(error); "{}{hint}", words(error));
}

/// A stable kind for programs.
pub fn kind(error: &Error) -> &'static str {
    match error.root() {
        Error::Config(ConfigError::BadValue { .. } | ConfigError::NoEnvFile { .. }) => "bad-value",
        Error::Config(ConfigError::NotInMesh { .. }) => "not-in-mesh",
        Error::Config(ConfigError::Required { .. }) => "missing-option",
        Error::Config(ConfigError::File { .. }) => "bad-file",
        Error::Config(ConfigError::Fact(_)) => "unknown-fact",
        Error::Config(ConfigError::NoIpv6 { .. }) => "no-ipv6",
        Error::Backend(e) => match e {
            BackendError::NotPermitted { .. } | BackendError::NoRawSocket => "not-permitted",
            BackendError::LegacyUnknown { .. } => "legacy-unknown",
            BackendError::Missing { .. } => "missing-feature",
            BackendError::Refused { .. } | BackendError::OwnerRefused { .. } => "refused",
            BackendError::Taken { .. } => "taken",
            BackendError::TooLarge { .. } => "too-large",
            BackendError::Locked { .. } => "locked",
            BackendError::Interrupted { .. } => "interrupted",
            BackendError::NoProgram(_) => "no-program",
            BackendError::Io { .. } => "io",
        },
        Error::Routing(_) => "routing",
        Error::JumpLoop(_) => "jump-loop",
        Error::TooManyClasses => "too-many-classes",
        Error::NoNetAdmin(_) => "not-permitted",
        Error::HostNetwork | Error::HostNetworkUnknown(_) => "host-network",
        Error::Namespace { .. } | Error::NotANamespace { .. } => "network-namespace",
        Error::Contended(_) => "contended",
        Error::AnotherWatch(_) => "another-watch",
        Error::NamespaceGone { .. } => "namespace-gone",
        Error::Watch { .. } => "watch",
        Error::NoBackend => "no-backend",
        Error::Probe(_) => "probe",
        Error::CloseWait { .. } => "sysctl",
        Error::Output(_) => "output",
        Error::Unmapped { .. } | Error::After { .. } => "other",
    }
}

/// The whole message.
pub fn words(error: &Error) -> String {
    match error {
        Error::After { source, left } => format!("{}; {}", words(source), left_words(*left)),
        Error::Unmapped { source, owners } => format!("{source}: {}", unmapped(owners)),
        Error::Config(e) => config(e),
        Error::NoNetAdmin(grant) => format!(
            "{error}: rules can be neither read nor changed without it. {}",
            net_admin_remedy(*grant)
        ),
        Error::HostNetwork => format!(
            "{error}, not of a pod: rules here would cut the node off. Nothing was changed; remove the init \
             container from such pods, or give --allow-host-network"
        ),
        Error::HostNetworkUnknown(_) => format!(
            "{error}. Rules in a node's network namespace would cut the node off. Nothing was changed; if it is \
             a pod's own network namespace, give --allow-host-network"
        ),
        Error::Namespace { source, .. } => {
            let remedy = match source {
                nix::Error::EPERM => " (entering another network namespace requires CAP_SYS_ADMIN)",
                _ => "",
            };
            format!("--network-namespace: {error}{remedy}")
        }
        Error::NotANamespace { .. } => format!(
            "--network-namespace: {error} (a network namespace is /run/netns/NAME or /proc/PID/ns/net)"
        ),
        Error::Contended(_) => format!("{error}; run this again when they have ended"),
        Error::AnotherWatch(_) => format!("{error} already: stop it first, or give --wait"),
        Error::NamespaceGone { .. } => format!("{error}: there is nothing left to watch"),
        Error::CloseWait { installed, .. } => {
            let left = match installed {
                true => "the rules are installed and stay",
                false => "nothing was changed",
            };
            format!(
                "--timeout-close-wait-secs: {error} ({left}); omit the option, or let the container write sysctls \
                 (securityContext.privileged: true)"
            )
        }
        Error::Backend(BackendError::TooLarge { needed, .. }) => format!(
            "{error}. Raise the host's net.core.wmem_max to {}, or use --backend nftables, which keeps address \
             lists in sets",
            needed.div_ceil(2)
        ),
        Error::Backend(BackendError::NoRawSocket) => format!(
            "{error}. Grant it in the pod spec:\n    securityContext:\n      capabilities: \
             {{add: [NET_ADMIN, NET_RAW]}}\nor in the systemd unit:\n    \
             AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW\nor use the tables of nf_tables, which need \
             NET_ADMIN alone: --backend netlink (proxy-init: --iptables-mode nft)"
        ),
        Error::Backend(BackendError::OwnerRefused { .. }) => format!(
            "{error}: this network namespace belongs to another user namespace, and xt rules about owners can only be \
             written from there; give --backend nftables, or none (auto)"
        ),
        error => error.to_string(),
    }
}

fn config(error: &ConfigError) -> String {
    match error {
        ConfigError::NotInMesh { having, .. } => {
            format!("{error} (--mesh {} has it)", having.join(" or --mesh "))
        }
        ConfigError::Required {
            missing,
            variables,
            mesh,
        } => format!(
            "mesh {mesh} requires {} (prepare-proxy --help has examples)",
            names(missing, *variables)
        ),
        ConfigError::NoEnvFile { path } => {
            let path = path.display();
            format!("--env-file: {error}; --env-file -{path} if it may be absent")
        }
        ConfigError::NoIpv6 { .. } => format!("{error}, or the kernel has none; omit the option"),
        error => error.to_string(),
    }
}

/// `--proxy-port (-p, ENVOY_PORT) and --proxy-uid (-u, PROXY_UID)`.
fn names(options: &[Opt], variables: bool) -> String {
    let name = |opt: &Opt| {
        let spec = opt.spec();
        let short = spec.short.map(|letter| format!("-{letter}"));
        let env = spec.env.iter().filter(|_| variables);
        let others = short.into_iter().chain(env.map(|name| (*name).to_owned()));
        let others: Vec<String> = others.collect();
        format!("--{} ({})", spec.long, others.join(", "))
    };
    options.iter().map(name).collect::<Vec<_>>().join(" and ")
}

/// What the user namespace does not map.
pub(super) fn unmapped(owners: &[Owner]) -> String {
    let ids = owners.iter().map(|owner| match owner {
        Owner::Uid(id) => format!("uid {id}"),
        Owner::Gid(id) => format!("gid {id}"),
    });
    format!(
        "this user namespace does not map {} (/proc/self/uid_map, gid_map): the kernel refuses a rule about it, \
         or the rule never matches; map it, or run the proxy as another user",
        ids.collect::<Vec<_>>().join(", ")
    )
}

fn left_words(left: Left) -> String {
    const REPAIR: &str = "the next apply or clean that succeeds repairs that";
    match left {
        Left::SomeTablesChanged => {
            format!("some tables are changed already and others are not; {REPAIR}")
        }
        Left::Undetermined => {
            format!("whether any rule was changed cannot be determined; {REPAIR}")
        }
        Left::NewRulesInPlace { backend } => {
            format!("the new rules are in place ({backend}), and older ones may be too; {REPAIR}")
        }
        Left::AllRulesRemoved => "all rules are removed".to_owned(),
    }
}

/// How to grant NET_ADMIN where this process runs.
fn net_admin_remedy(grant: Grant) -> String {
    const POD: &str =
        "Grant it in the pod spec:\n    securityContext:\n      capabilities: {add: [NET_ADMIN]}";
    const UNIT: &str = "in the systemd unit:\n    AmbientCapabilities=CAP_NET_ADMIN";
    let in_kubernetes = crate::engine::host::environment()
        .contains_key(std::ffi::OsStr::new("KUBERNETES_SERVICE_HOST"));
    let uid = grant.uid;
    match (
        grant.bounded && uid != 0,
        grant.in_container || in_kubernetes,
    ) {
        (true, true) => format!(
            "It is granted to this container, but a program that runs as uid {uid} does not get it: run it as \
             root (runAsUser: 0), or give the file the capability (docs/kubernetes.md)"
        ),
        (true, false) => format!("Run it as root, with sudo in front, or grant it {UNIT}"),
        (false, true) if in_kubernetes => POD.to_owned(),
        (false, _) => format!("{POD}\nor {UNIT}"),
    }
}
