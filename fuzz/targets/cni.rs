//! What a container runtime writes to the plugin's standard input, in an environment that leads nowhere:
//! nothing, or JSON, comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prepare_proxy::frontend::cni::answer;
use prepare_proxy::mesh::config::Environment;

fuzz_target!(|input: (u8, String, Vec<u8>)| {
    let (verb, args, input) = input;
    let verbs = ["ADD", "CHECK", "STATUS", "GC", "DEL", "VERSION", "?"];
    let variables = [
        ("CNI_COMMAND", verbs[usize::from(verb) % verbs.len()]),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/nowhere"),
        ("CNI_ARGS", &args),
    ];
    let variables = variables.map(|(name, value)| (name.into(), value.into()));
    let environment = Environment::new(variables.into());
    let (_, answer) = answer(input, &environment);
    assert!(answer.is_empty() || answer.starts_with('{') && answer.ends_with("}\n"), "{answer}");
});
