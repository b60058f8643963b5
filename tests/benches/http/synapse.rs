//! Synapse's room tags, which are Matrix's way of sorting conversations into groups: a request for each conversation.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Client, Failure};

/// A connection of a new user, with requests that take this many rooms out of a tag, and put them back.
pub(crate) fn client(server: SocketAddr, user: &str, rooms: usize) -> Result<Client, Failure> {
    let mut client = Client::connect(server, "{")?;
    let registration = json!({
        "username": user, "password": "for benchmarks only", "auth": { "type": "m.login.dummy" },
    });
    client.call(&request("POST", "/register", "", &registration))?;
    let token = said(&client, "access_token")?;
    // Only rooms that one is in can be tagged.
    let mut tags = Vec::new();
    for _ in 0..rooms {
        client.call(&request("POST", "/createRoom", &token, &json!({})))?;
        tags.push(format!("/user/@{user}:localhost/rooms/{}/tags/u.work", said(&client, "room_id")?));
    }
    let requests =
        |method: &str| tags.iter().map(|tag| request(method, tag, &token, &json!({}))).collect::<Vec<Vec<u8>>>();
    let (delete, add) = (requests("DELETE"), requests("PUT"));
    for request in &add {
        client.call(request)?;
    }
    client.takes_out_and_puts_back(delete, add);
    Ok(client)
}

/// A text in the last answer.
fn said(client: &Client, name: &str) -> Result<String, Failure> {
    let answer: Value = serde_json::from_slice(client.body())?;
    Ok(answer[name].as_str().ok_or_else(|| format!("Synapse gives no {name}"))?.to_owned())
}

/// A request with a token, if there is one.
fn request(method: &str, path: &str, token: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!(
        "{method} /_matrix/client/v3{path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
