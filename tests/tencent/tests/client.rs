//! An unmodified client of Tencent's REST API, the crate tencent_im_rs, against the program's server over TLS: see `run.sh`.

use tencent_im_rs::api::v4::TencentHelper;
use tencent_im_rs::api::v4::common::contact_item::ContactItem;
use tencent_im_rs::api::v4::common::{
    ActionStatus, ContactOptType, ConversationType, MarkOptType, UpdateGroupType, UpdateType,
};
use tencent_im_rs::api::v4::recent_contact::create_contact_group::{
    CreateContactGroupRequest, GroupContactItem, api_create_contact_group,
};
use tencent_im_rs::api::v4::recent_contact::del_contact_group::{DelContactGroupRequest, api_del_contact_group};
use tencent_im_rs::api::v4::recent_contact::get_contact_group::{GetContactGroupRequest, api_get_contact_group};
use tencent_im_rs::api::v4::recent_contact::mark_contact::{MarkContactRequest, MarkItem, api_mark_contact};
use tencent_im_rs::api::v4::recent_contact::search_contact_group::{
    SearchContactGroupRequest, api_search_contact_group,
};
use tencent_im_rs::api::v4::recent_contact::update_contact_group::{
    ContactUpdateItem, UpdateContactGroupRequest, UpdateContactGroupResponse, UpdateGroup, api_update_contact_group,
};
use tencent_im_rs::user_sig::hmac_sha256::TencentSig;

const APP: u32 = 1_400_000_000;
const ADMIN: &str = "administrator";

/// A client of the server at `TEST_SERVER`, which trusts the authority in the file `TEST_AUTHORITY`: `run.sh` makes both.
fn client() -> TencentHelper {
    let from_script = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start run.sh"));
    let authority = std::fs::read(from_script("TEST_AUTHORITY")).expect("it can be read");
    let key = from_script("CONVGROUPS_USERSIG_KEYS");
    let signature = TencentSig::new(APP, key).generate_user_sig(ADMIN.to_owned(), 3600).expect("signs");
    let mut client = TencentHelper::new(from_script("TEST_SERVER"), APP, ADMIN.to_owned(), signature);
    let trusted = reqwest::Certificate::from_pem(&authority).expect("a certificate");
    *client.get_client() = reqwest::Client::builder().add_root_certificate(trusted).build().expect("a client");
    client
}

fn contact(user: &str) -> ContactItem {
    let mut contact = ContactItem::new(ConversationType::OneToOne);
    contact.set_to_account(Some(user));
    contact
}

fn chat_group(group: &str) -> ContactItem {
    let mut contact = ContactItem::new(ConversationType::Group);
    contact.set_to_group_id(Some(group));
    contact
}

async fn update(
    client: &mut TencentHelper,
    kind: UpdateGroupType,
    items: Vec<ContactUpdateItem>,
    old_name: &str,
    new_name: Option<&str>,
) -> UpdateContactGroupResponse {
    let mut group = UpdateGroup::new(kind, items);
    group.set_old_group_name(Some(old_name)).set_new_group_name(new_name);
    let request = UpdateContactGroupRequest::new("alice", UpdateType::AddOrDelete, group);
    api_update_contact_group(client, request).await.expect("it understands the answer")
}

#[tokio::test]
async fn an_unmodified_client_creates_adds_deletes_renames_gets_searches_marks_and_removes_over_tls() {
    let mut client = client();

    let group = GroupContactItem::new("Work", vec![contact("bob"), chat_group("@TGS#1")]);
    let created = api_create_contact_group(&mut client, CreateContactGroupRequest::new("alice", vec![group])).await;
    let created = created.expect("it understands the answer");
    assert_eq!(created.action_status, Some(ActionStatus::Ok), "{created:?}");
    let result = &created.group_result_item.expect("one group")[0];
    assert_eq!((result.group_item.group_name(), result.group_item.group_id()), ("Work", 1));
    assert!(result.result_item.iter().all(|item| item.result_code == 0) && result.result_item.len() == 2);

    let add = vec![ContactUpdateItem::new(ContactOptType::Add, contact("carol"))];
    let added = update(&mut client, UpdateGroupType::Conversation, add, "Work", None).await;
    assert_eq!(added.error_code, Some(0), "{added:?}");

    // The main job.
    let delete = ["bob", "nobody"].map(|user| ContactUpdateItem::new(ContactOptType::Delete, contact(user)));
    let deleted = update(&mut client, UpdateGroupType::Conversation, delete.into(), "Work", None).await;
    let results = deleted.update_group_result.expect("a result").contact_result_item;
    let told: Vec<_> = results.iter().map(|item| (item.contact_item.to_account(), item.result_code)).collect();
    assert_eq!(told, [(Some("bob"), 0), (Some("nobody"), 0)]);
    assert_eq!(results[1].result_info, "not in the group");

    let renamed = update(&mut client, UpdateGroupType::GroupName, Vec::new(), "Work", Some("Job")).await;
    let renamed = renamed.update_group_result.expect("a result");
    assert_eq!((renamed.group_name.as_str(), renamed.group_id), ("Job", 1));

    let mut mark = MarkItem::new(MarkOptType::StandardAndCustom, contact("carol"));
    mark.set_set_mark(Some(vec![0, 2, 63])).set_custom_mark(Some("from the fair"));
    let marked = api_mark_contact(&mut client, MarkContactRequest::new("alice", vec![mark])).await;
    let marked = marked.expect("it understands the answer").result_item.expect("results");
    assert_eq!((marked.len(), marked[0].result_code), (1, 0));

    let got = api_get_contact_group(&mut client, GetContactGroupRequest::new("alice", 0)).await;
    let got = got.expect("it understands the answer");
    assert_eq!((got.complete_flag, got.next_start_index), (Some(1), Some(0)));
    let contacts = got.contact_item.expect("contacts");
    assert_eq!(contacts.len(), 2);
    assert_eq!(contacts[0].to_group_id(), Some("@TGS#1"));
    assert_eq!(contacts[1].to_account(), Some("carol"));
    assert_eq!(contacts[1].contact_group_id(), Some(&vec![1]));
    assert_eq!(contacts[1].standard_mark(), Some(format!("1{}101", "0".repeat(60)).as_str()));
    assert_eq!(contacts[1].custom_mark(), Some("from the fair"));

    let wanted = vec![contact("carol"), contact("nobody")];
    let found = api_search_contact_group(&mut client, SearchContactGroupRequest::new("alice", wanted)).await;
    let found = found.expect("it understands the answer");
    let contacts = found.contact_result_item.expect("contacts");
    assert_eq!(contacts[0].contact_group_id(), Some(&vec![1]));
    assert_eq!(contacts[1].contact_group_id(), None);
    assert_eq!(found.group_item.expect("groups")[0].group_name(), "Job");

    let delete = DelContactGroupRequest::new("alice", vec!["Job"]);
    let removed = api_del_contact_group(&mut client, delete).await.expect("it understands the answer");
    assert_eq!(removed.group_item.expect("a group")[0].group_name(), "Job");

    let again = DelContactGroupRequest::new("alice", vec!["Job"]);
    let refused = api_del_contact_group(&mut client, again).await.expect("it understands the refusal");
    assert_eq!((refused.action_status, refused.error_code), (Some(ActionStatus::Fail), Some(51009)));

    // Its indexes of pages have 32 bits.
    let users: Vec<String> = (1..=1500).map(|number| format!("{number:04}")).collect();
    for (number, users) in users.chunks(100).enumerate() {
        let name = format!("group {number}");
        let group = GroupContactItem::new(&name, users.iter().map(|user| contact(user)).collect());
        let created = api_create_contact_group(&mut client, CreateContactGroupRequest::new("alice", vec![group])).await;
        let created = created.expect("it understands the answer");
        assert_eq!(created.error_code, Some(0), "{created:?}");
    }
    let (mut start, mut seen) = (0, 0);
    loop {
        let got = api_get_contact_group(&mut client, GetContactGroupRequest::new("alice", start)).await;
        let got = got.expect("it understands the page");
        seen += got.contact_item.expect("contacts").len();
        start = got.next_start_index.expect("an index");
        if got.complete_flag == Some(1) {
            break;
        }
    }
    // Carol is marked.
    assert_eq!(seen, 1501);
}
