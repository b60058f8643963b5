//! The rules of taking conversations out of a group, with strings of JSON for what crosses, as is the way with Extism.

use std::collections::HashSet;

use extism_pdk::{FnResult, host_fn, plugin_fn};
use serde::{Deserialize, Serialize};

#[host_fn]
extern "ExtismHost" {
    /// Takes a group's name and ids; answers which were in the group, both as JSON.
    fn remove_conversations(request: String) -> String;
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    group_name: String,
    #[serde(rename = "conversationIDList")]
    ids: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(rename = "conversationID")]
    id: String,
    result_code: i32,
    result_info: &'static str,
}

fn refused(code: i32, desc: &str) -> String {
    serde_json::json!({ "code": code, "desc": desc }).to_string()
}

#[plugin_fn]
pub fn delete_conversations_from_group(request: String) -> FnResult<String> {
    let Request { group_name, ids } = serde_json::from_str(&request)?;
    if ids.is_empty() || ids.len() > 100 {
        return Ok(refused(51006, "from 1 to 100 conversation ids"));
    }
    if group_name.is_empty() || group_name.chars().any(char::is_control) {
        return Ok(refused(50002, "malformed group name"));
    }
    if group_name.len() > 32 {
        return Ok(refused(51011, "the group name is too long"));
    }
    let mut seen = HashSet::new();
    let mut wanted = Vec::new();
    let mut outcomes = Vec::with_capacity(ids.len());
    for id in &ids {
        let rest = id.strip_prefix("c2c_").or_else(|| id.strip_prefix("group_")).unwrap_or_default();
        let (result_code, result_info) = if rest.is_empty() || id.len() > 255 || id.chars().any(char::is_control) {
            (50002, "malformed conversation id")
        } else if seen.insert(id.as_str()) {
            wanted.push((outcomes.len(), id.clone()));
            (0, "")
        } else {
            (0, "repeated in the request")
        };
        outcomes.push(Outcome { id: id.clone(), result_code, result_info });
    }
    let (places, ids): (Vec<usize>, Vec<String>) = wanted.into_iter().unzip();
    // SAFETY: the host answers the string that the declaration says.
    let answer = unsafe { remove_conversations(serde_json::to_string(&Request { group_name, ids })?)? };
    let Some(held) = serde_json::from_str::<Option<Vec<bool>>>(&answer)? else {
        return Ok(refused(51009, "there is no such group"));
    };
    for (place, held) in places.into_iter().zip(held) {
        if !held {
            outcomes[place].result_info = "not in the group";
        }
    }
    Ok(serde_json::json!({ "code": 0, "desc": "", "data": outcomes }).to_string())
}
