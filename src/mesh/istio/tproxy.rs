//! TPROXY mode: inbound packets reach the proxy unchanged, and so do the app's answers.
//!
//! The proxy opens its connection to the app from the client's address, with the TPROXY mark on
//! its packets. The mark is kept with the connection, so that the answers are marked as well and
//! come back to the proxy over the policy route. What the proxy sends to an address of the pod's
//! own gets a mark of its own, and is the only traffic over lo that is captured.

use super::{owners, passthrough};
use crate::mesh::config::{Config, Tproxy};
use crate::mesh::shared::{
    Capture, INBOUND, established, inbound, tcp, tproxy_captures, tproxy_targets,
};
use crate::netfilter::model::{Chain, ChainName, Interface, Match, Table, Target};

/// On what the proxy sends to the pod's own address, on its way to the proxy's inbound side.
pub(super) const OUTBOUND_MARK: u32 = 1338;

pub(super) fn rules(mangle: &mut Table, config: &Config, tproxy: Tproxy) {
    let captures = tproxy_captures(config).is_some();
    let family = mangle.family;
    if captures {
        tproxy_targets(mangle, config, tproxy);
    }
    let chain = mangle.chain(INBOUND);
    chain.rule(
        "bypass-marked",
        [tcp(), Match::mark(tproxy.mark)],
        Target::Return,
    );
    let lo = || Match::in_interface(Interface::LOOPBACK);
    chain.rule(
        "bypass-inbound-passthrough",
        [tcp(), Match::source(passthrough(family)), lo()],
        Target::Return,
    );
    chain.rule(
        "bypass-app-to-itself",
        [tcp(), lo(), !Match::mark(OUTBOUND_MARK)],
        Target::Return,
    );
    if captures {
        inbound(chain, config, &Capture::tproxy(established()));
    }
    let prerouting = mangle.chain(ChainName::PREROUTING);
    if captures {
        prerouting.rule("install-istio-prerouting", [tcp()], Target::Jump(INBOUND));
    }
    prerouting.rule(
        "save-tproxy-mark",
        [tcp(), Match::mark(tproxy.mark)],
        Target::save_mark(),
    );
    let loopback = Match::destination(config.loopback(family));
    output(mangle.chain(ChainName::OUTPUT), config, tproxy, &loopback);
}

fn output(chain: &mut Chain, config: &Config, tproxy: Tproxy, loopback: &Match) {
    let lo = Match::out_interface(Interface::LOOPBACK);
    chain.rule(
        "bypass-marked",
        [tcp(), lo.clone(), Match::mark(tproxy.mark)],
        Target::Return,
    );
    for owner in owners(config) {
        chain.rule(
            "mark-implicit-loopback",
            [!loopback.clone(), tcp(), lo.clone(), Match::owner(owner)],
            Target::mark(OUTBOUND_MARK),
        );
    }
    chain.rule(
        "restore-tproxy-mark",
        [tcp(), Match::connmark(tproxy.mark)],
        Target::restore_mark(),
    );
}
