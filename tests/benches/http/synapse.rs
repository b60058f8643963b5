//! Synapse's room tags, which are Matrix's way of sorting conversations into groups: a request for each conversation.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{Client, Failure};

/// A connection of a new user, with requests that take so many rooms out of a tag, and put them back.
pub(crate) fn client(server: SocketAddr, user: &str, rooms: usize) -> Result<Client, Failure> {
    let mut client = Client::connect(server, "{")?;
    let registration = json!({
        "username": user, "password": "for benchmarks only", "auth": { "type": "m.login.dummy" },
    });
    client.call(&request("POST", "/register", "", &registration))?;
    let answer: Value = serde_json::from_slice(client.body())?;
    let token = answer["access_token"].as_str().ok_or("Synapse gives no token")?;
    let requests = |method: &str| {
        let tag = |room| format!("/user/@{user}:localhost/rooms/!room{room:06}:localhost/tags/u.work");
        (0..rooms).map(|room| request(method, &tag(room), token, &json!({}))).collect::<Vec<_>>()
    };
    let (delete, add) = (requests("DELETE"), requests("PUT"));
    for request in &add {
        client.call(request)?;
    }
    client.takes_out_and_puts_back(delete, add);
    Ok(client)
}

fn request(method: &str, path: &str, token: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "{method} /_matrix/client/v3{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
