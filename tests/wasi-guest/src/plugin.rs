//! The exports.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use crate::bindings::exported::{
    ConversationFilter, ConversationOperationResult, ConversationPage, ConversationSearchResult, Guest, OperationError,
};
use crate::bindings::group_store;
use crate::bindings::sockets::instance_network::instance_network;
use crate::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use crate::bindings::sockets::tcp_create_socket::create_tcp_socket;

/// The exports of the world.
pub(crate) struct Plugin;

type Answer = Result<Vec<ConversationOperationResult>, OperationError>;

fn refuse<T>(desc: &str) -> Result<T, OperationError> {
    Err(OperationError { code: 1, desc: desc.to_owned() })
}

fn not_tested<T>() -> Result<T, OperationError> {
    refuse("not part of this test")
}

fn answer(ids: Vec<String>, info: &str) -> Answer {
    let result =
        |conversation_id| ConversationOperationResult { conversation_id, result_code: 0, result_info: info.to_owned() };
    Ok(ids.into_iter().map(result).collect())
}

/// What became of each attempt to reach something outside.
fn attempts() -> String {
    println!("a line on standard output");
    eprintln!("a line on standard error");
    let env = std::env::vars_os().count();
    let args = std::env::args_os().count();
    let read = outcome(&File::open("/etc/passwd"));
    let write = outcome(&File::create("left-by-a-plugin"));
    let connect = outcome(&connect());
    let sleep = if sleeps_for_an_hour() { "slept" } else { "cut-short" };
    let clock = if SystemTime::now() > SystemTime::UNIX_EPOCH { "runs" } else { "stands" };
    // The standard library takes the keys of its hash maps from WASI, and panics when it gets none.
    let random = if RandomState::new().hash_one(0) == 0 { "none" } else { "some" };
    format!(
        "env={env} args={args} read={read} write={write} connect={connect} sleep={sleep} clock={clock} random={random}"
    )
}

fn outcome<T, E>(attempt: &Result<T, E>) -> &'static str {
    if attempt.is_ok() { "done" } else { "refused" }
}

/// Whether anybody listens is no matter: that the attempt could be begun is bad enough.
fn connect() -> Result<(), ErrorCode> {
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 1, address: (127, 0, 0, 1) });
    create_tcp_socket(IpAddressFamily::Ipv4)?.start_connect(&instance_network(), address)
}

/// Tries to. A host that lets it would miss its deadline by far, and hear of it here, too.
fn sleeps_for_an_hour() -> bool {
    let before = Instant::now();
    std::thread::sleep(Duration::from_secs(3600));
    before.elapsed() > Duration::from_secs(1)
}

impl Guest for Plugin {
    fn create_conversation_group(group_name: String, conversation_id_list: Vec<String>) -> Answer {
        match group_store::create_group(&group_name, &conversation_id_list) {
            Ok(_) => answer(conversation_id_list, ""),
            Err(error) => refuse(&format!("could not create the group: {error}")),
        }
    }

    fn get_conversation_group_list() -> Result<Vec<String>, OperationError> {
        Ok(group_store::list_groups())
    }

    fn delete_conversation_group(_: String) -> Result<(), OperationError> {
        not_tested()
    }

    fn rename_conversation_group(_: String, _: String) -> Result<(), OperationError> {
        not_tested()
    }

    fn add_conversations_to_group(_: String, _: Vec<String>) -> Answer {
        not_tested()
    }

    fn delete_conversations_from_group(_: String, conversation_id_list: Vec<String>) -> Answer {
        answer(conversation_id_list, &attempts())
    }

    fn mark_conversation(_: u64, _: bool, _: Vec<String>) -> Answer {
        not_tested()
    }

    fn set_conversation_custom_data(_: String, _: Vec<String>) -> Answer {
        not_tested()
    }

    fn get_conversation_list_by_filter(
        _: ConversationFilter,
        _: u64,
        _: u32,
    ) -> Result<ConversationPage, OperationError> {
        not_tested()
    }

    fn search_conversations(_: Vec<String>) -> Result<Vec<ConversationSearchResult>, OperationError> {
        not_tested()
    }
}
