//! `inspect -f`: a small part of the templates that podman and docker have from
//! Go.
//!
//! ```text
//!   text {{.Field.Field}} text {{json .Field}} text
//! ```
//!
//! A field is one of those that `inspect` prints, found whatever its case and
//! underscores are: `.ExitCode` is `exit_code`. What podman calls otherwise is
//! found under podman's name, too: see [`PODMANS`]. There are no functions but
//! `json`, no pipes, conditions and loops: for more there is jq(1).

use anyhow::{Result, bail};
use serde_json::Value;

/// podman's name, and ours.
const PODMANS: [(&str, &str); 7] = [
    ("state.status", "state"),
    ("state.health.status", "health"),
    ("state.pid", "pid"),
    ("state.exitcode", "exit_code"),
    ("state.startedat", "started"),
    ("state.finishedat", "finished"),
    ("config.cmd", "command"),
];

/// As Go has it, for what is not known (yet): not a number, so that no script
/// takes it for one.
const NO_VALUE: &str = "<no value>";

/// The template with the values of `of`, the first that has the field.
pub fn fill(template: &str, of: &[Value]) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, behind)) = after.split_once("}}") else {
            bail!("--format {template:?}: {{{{ has no }}}}");
        };
        filled += before;
        filled += &value(action.trim().trim_matches('-').trim(), of)?;
        rest = behind;
    }
    Ok(filled + rest)
}

fn value(action: &str, of: &[Value]) -> Result<String> {
    let (as_json, path) = action.strip_prefix("json ").map_or((false, action), |path| (true, path.trim()));
    let is_path = |path: &str| {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        path == "." || path.strip_prefix('.').is_some_and(|path| path.split('.').all(is_name))
    };
    if !is_path(path) {
        bail!("--format {{{{{action}}}}}: there is {{{{.Field.Field}}}} and {{{{json .Field}}}}; use jq(1) for more");
    }
    let Some(found) = find(path, of) else {
        let fields = of.iter().filter_map(Value::as_object).flat_map(|object| object.keys());
        let fields = fields.map(|name| format!(".{name}")).collect::<Vec<_>>().join(" ");
        bail!("--format {{{{{action}}}}}: there is no such field; there are {fields}");
    };
    Ok(match found {
        found if as_json => found.to_string(),
        Value::Null => NO_VALUE.into(),
        Value::String(text) => text,
        Value::Bool(_) | Value::Number(_) => found.to_string(),
        Value::Array(_) | Value::Object(_) => {
            bail!("--format {{{{{action}}}}}: not a single value: use {{{{json {path}}}}}")
        }
    })
}

fn find(path: &str, of: &[Value]) -> Option<Value> {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    let find = |path: &str| {
        let parts: Vec<_> = path.split('.').filter(|part| !part.is_empty()).map(plain).collect();
        let step = |value: Value, part: &String| {
            value.as_object()?.iter().find(|(name, _)| plain(name) == *part).map(|(_, value)| value.clone())
        };
        of.iter().find_map(|root| parts.iter().try_fold(root.clone(), step))
    };
    let path = plain(path.trim_start_matches('.'));
    let ours = PODMANS.iter().find(|(podmans, _)| *podmans == path).map(|(_, ours)| *ours);
    find(&path).or_else(|| match path.as_str() {
        "state.running" => find("state").map(|state| (state == "running").into()),
        "state.oomkilled" => find("out_of_memory").map(|level| (!level.is_null()).into()),
        _ => find(ours?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_found_under_both_names() {
        let of = [json!({
            "name": "a", "pid": null, "state": "exited", "exit_code": 3, "command": ["sh", "-c"],
            "usage": { "pids": null, "cpu": { "usage_usec": 5 } }
        })];
        for (template, filled) in [
            ("plain", "plain"),
            ("{{.Name}}: {{ .State }}", "a: exited"),
            ("{{.State.Status}} {{.State.ExitCode}} {{.exit_code}} {{.ExitCode}}", "exited 3 3 3"),
            ("{{.State.Pid}} {{.Pid}}", "<no value> <no value>"),
            ("{{json .Pid}} {{json .Config.Cmd}}", "null [\"sh\",\"-c\"]"),
            ("{{.State.Running}} {{json .}}", &format!("false {}", of[0])),
            ("{{.Usage.Cpu.UsageUsec}}", "5"),
        ] {
            assert_eq!(fill(template, &of).expect(template), filled, "{template}");
        }
        for (template, word) in [
            ("{{.Command}}", "json .Command"),
            ("{{.Nothing}}", ".exit_code"),
            ("{{range .Command}}x{{end}}", "jq"),
            ("{{.Name | upper}}", "jq"),
            ("{{.Name", "}}"),
            ("{{}}", "jq"),
        ] {
            let error = fill(template, &of).expect_err(template).to_string();
            assert!(error.contains(word), "{template}: {error}");
        }
    }
}
