//! Runs both programs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

#[test]
fn the_program_prints_what_became_of_each_conversation() {
    let output = Command::new(env!("CARGO_BIN_EXE_embed")).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "c2c_bob: 0 \nc2c_eve: 0 not in the group\n");
}

#[test]
fn calls_over_http_are_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut served = Command::new(env!("CARGO_BIN_EXE_served"))
        .arg("127.0.0.1:0")
        .current_dir(&directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    BufReader::new(served.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where it listens");
    let address = line.trim().strip_prefix("http://").expect("an address").to_owned();
    let call = |method: &str, params: &str| {
        let mut connection = TcpStream::connect(&address).expect("it listens");
        let length = params.len();
        write!(connection, "POST /alice/{method} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{params}").expect("sends");
        let mut response = String::new();
        connection.read_to_string(&mut response).expect("it answers");
        response.split_once("\r\n\r\n").expect("head and body").1.to_owned()
    };
    let params = r#"{"groupName":"Work","conversationIDList":["c2c_bob"]}"#;
    let result = r#""data":[{"conversationID":"c2c_bob","resultCode":0,"resultInfo":""}]"#;
    assert_eq!(call("createConversationGroup", params), format!(r#"{{"code":0,"desc":"",{result}}}"#));
    assert_eq!(call("getConversationGroupList", "{}"), r#"{"code":0,"desc":"","data":["Work"]}"#);
    assert!(call("deleteConversationGroup", r#"{"groupName":"Family"}"#).contains("51009"));
    served.kill().expect("it runs");
    served.wait().expect("it ends");
}
