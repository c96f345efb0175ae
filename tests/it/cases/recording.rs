//! What the tools replaced were recorded to do, as `tests/conformance/` has it.

use serde_json::Value;
use std::path::Path;

/// The recordings of one tool: `nginmesh`, `istio-1.0`, `istio`.
pub fn vectors(tool: &str) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join(format!("tests/conformance/{tool}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("a recording is JSON")
}

/// `TOOL-NAME`
pub fn name(tool: &str, vector: &Value) -> String {
    format!("{tool}-{}", vector["name"].as_str().expect("a name"))
}

/// What somebody else had done before, as lines for a shell.
pub fn setup(vector: &Value) -> Vec<String> {
    strings(&vector["setup"])
}

/// A list, or nothing where there is none.
pub fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    let text = |item: &Value| item.as_str().expect("a list of strings").to_owned();
    items.map(text).collect()
}
