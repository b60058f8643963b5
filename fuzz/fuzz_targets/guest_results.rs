//! A guest that answers anything: the input is what its memory has where it says that the answer is.

#![no_main]

use std::cell::RefCell;

use convgroups_fuzz::guests::{ANSWERS, IMAGE, STAGED, plugin};
use convgroups_fuzz::{Renewed, commit, empty, host, patient_settings, state, user};
use convgroups_host::api::{
    AddConversationsToGroup, AnyResult, ConversationFilter, CreateConversationGroup, DeleteConversationGroup,
    DeleteConversationsFromGroup, GetConversationGroupList, GetConversationListByFilter, MarkConversation, Method,
    RenameConversationGroup, Request, SearchConversations, SetConversationCustomData,
};
use convgroups_host::model::{Change, ConversationData};
use convgroups_host::settings::SandboxSettings;
use convgroups_host::{Failure, Host, Operation, PluginSource, Settings};
use libfuzzer_sys::fuzz_target;

/// Few, so that answers beyond it are found.
const MAX_CROSSING_BYTES: usize = 64 << 10;
/// What the custom data has room for, in hex.
const MAX_IMAGE_BYTES: usize = 2048;

thread_local! {
    static HOST: RefCell<Renewed<Host>> = const { RefCell::new(Renewed::by(new_host)) };
}

fn new_host() -> Host {
    let settings = patient_settings();
    let sandbox = SandboxSettings { max_crossing_bytes: MAX_CROSSING_BYTES, ..settings.sandbox };
    host(Settings { sandbox, ..settings }, PluginSource::Bytes(plugin(ANSWERS)))
}

// Two bytes say what is asked for, and of how many conversations.
fuzz_target!(|input: &[u8]| {
    let Some((&[method, count], image)) = input.split_first_chunk() else { return };
    let image = &image[..image.len().min(MAX_IMAGE_BYTES)];
    let request = request(method, count);
    HOST.with_borrow_mut(|host| {
        let host = host.get();
        let alice = user("alice");
        let custom_data = image.iter().map(|byte| format!("{byte:02x}")).collect();
        let data = ConversationData { conversation_id: IMAGE.to_owned(), marks: 1, custom_data };
        commit(host.store(), &alice, vec![Change::ConversationsChanged { conversation_list: vec![data] }]);
        let before = state(host.store(), &alice);
        let reply = host.call(&alice, &request);
        let after = state(host.store(), &alice);
        match reply {
            Ok(reply) => {
                assert_fits(&request, &reply.result);
                assert_eq!((Some(after.version), before.version.next()), (reply.version, after.version));
                assert_eq!(after.value.groups.last().map(|group| group.group_name.as_str()), Some(STAGED));
            }
            Err(error) => {
                match &error.failure {
                    Failure::Refused(refusal) => assert_ne!(refusal.code, 0),
                    Failure::Plugin(fault) => assert!(!fault.detail.is_empty()),
                    Failure::Host(fault) => panic!("{fault}"),
                }
                assert_eq!(before, after, "{error}");
            }
        }
        empty(host.store(), &alice);
    });
});

fn request(method: u8, count: u8) -> Request {
    let (group, ids) = ("Work", || (0..count % 4).map(|id| format!("c2c_{id}")));
    match Method::ALL[usize::from(method) % Method::ALL.len()] {
        Method::CreateConversationGroup => CreateConversationGroup::new(group, ids()).into(),
        Method::GetConversationGroupList => GetConversationGroupList::new().into(),
        Method::DeleteConversationGroup => DeleteConversationGroup::new(group).into(),
        Method::RenameConversationGroup => RenameConversationGroup::new(group, "Play").into(),
        Method::AddConversationsToGroup => AddConversationsToGroup::new(group, ids()).into(),
        Method::DeleteConversationsFromGroup => DeleteConversationsFromGroup::new(group, ids()).into(),
        Method::MarkConversation => MarkConversation::new(1, true, ids()).into(),
        Method::SetConversationCustomData => SetConversationCustomData::new(group, ids()).into(),
        Method::GetConversationListByFilter => {
            GetConversationListByFilter::new(ConversationFilter::default(), 0, u32::from(count)).into()
        }
        Method::SearchConversations => SearchConversations::new(ids()).into(),
        other => unreachable!("no call of {other} is made here"),
    }
}

/// The answer is of the request's kind, has one result for each id in order, or no more than were asked for, and is no longer
/// than what may cross at once.
fn assert_fits(request: &Request, answer: &AnyResult) {
    let ids = request.conversation_ids();
    let bytes: usize = match (request, answer) {
        (Request::GetConversationGroupList(_), AnyResult::GroupNames(names)) => names.iter().map(String::len).sum(),
        (Request::DeleteConversationGroup(_) | Request::RenameConversationGroup(_), AnyResult::Done) => 0,
        (Request::GetConversationListByFilter(query), AnyResult::Page(page)) => {
            assert!(page.conversation_list.len() <= query.count as usize);
            let listed = page.conversation_list.iter();
            listed.map(|listed| listed.conversation_id.len() + listed.custom_data.len()).sum()
        }
        (Request::SearchConversations(_), AnyResult::Found(found)) => {
            assert!(found.iter().map(|result| &result.conversation_id).eq(ids));
            found.iter().map(|result| result.conversation_id.len() + result.custom_data.len()).sum()
        }
        (
            Request::CreateConversationGroup(_)
            | Request::AddConversationsToGroup(_)
            | Request::DeleteConversationsFromGroup(_)
            | Request::MarkConversation(_)
            | Request::SetConversationCustomData(_),
            AnyResult::Results(results),
        ) => {
            assert!(results.iter().map(|result| &result.conversation_id).eq(ids));
            results.iter().map(|result| result.conversation_id.len() + result.result_info.len()).sum()
        }
        (request, answer) => panic!("{answer:?} is no answer to {request:?}"),
    };
    assert!(bytes <= MAX_CROSSING_BYTES, "{bytes} bytes have crossed");
}
