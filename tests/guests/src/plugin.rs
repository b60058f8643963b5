//! A plugin of which only one function is left open.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::panic::PanicInfo;

use crate::bindings::exports::im::conversation_groups::operations;
use crate::bindings::im::conversation_groups::diagnostics;

pub use crate::bindings::im::conversation_groups::types::{Annotation, ConversationOperationResult, OperationError};
pub use crate::bindings::im::conversation_groups::{annotation_store, group_store};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What deleting conversations from a group answers.
pub type Answer = Result<Vec<ConversationOperationResult>, OperationError>;

/// The group that examples attack. Of all others they take conversations as they should, so that one plugin can be at work for
/// one user while it attacks for another.
pub const ATTACKED: &str = "Work";

/// What an example brings along.
pub trait Misbehaves {
    /// Called instead of deleting conversations from the attacked group, with the group's name and the ids.
    const DELETE: fn(&str, &[&str]) -> Answer;
}

/// Exports a plugin that calls the given function instead of deleting conversations from a group.
#[macro_export]
macro_rules! plugin {
    ($delete:expr) => {
        struct Misbehaving;

        impl $crate::Misbehaves for Misbehaving {
            const DELETE: fn(&str, &[&str]) -> $crate::Answer = $delete;
        }

        type Plugin = $crate::Plugin<Misbehaving>;
        $crate::bindings::export!(Plugin);

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::report(info)
        }
    };
}

/// For components that are no plugin of ours: a panic handler that imports nothing.
#[macro_export]
macro_rules! panic_in_silence {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            core::arch::wasm32::unreachable()
        }
    };
}

/// Ends the call with the panic's message.
pub fn report(info: &PanicInfo<'_>) -> ! {
    diagnostics::panicked(&info.to_string());
    core::arch::wasm32::unreachable()
}

/// A success for each id, all with the same remark.
pub fn answer(ids: &[&str], info: &str) -> Answer {
    let result = |id: &&str| ConversationOperationResult {
        conversation_id: (*id).to_string(),
        result_code: 0,
        result_info: info.to_string(),
    };
    Ok(ids.iter().map(result).collect())
}

/// A refusal of the whole operation.
pub fn refuse<T>(code: i32, desc: &str) -> Result<T, OperationError> {
    Err(OperationError { code, desc: desc.to_string() })
}

/// Stages that the ids leave the group. Panics unless all were there: otherwise there would be nothing to lose, and a test
/// would prove nothing.
pub fn stage_removal(group: &str, ids: &[&str]) {
    let removed = group_store::remove_conversations(group, ids);
    assert!(removed.is_ok_and(|removed| !removed.contains(&false)), "the test has not put the ids into the group");
}

/// The exports of the world.
pub struct Plugin<M>(PhantomData<M>);

fn not_tested<T>() -> Result<T, OperationError> {
    refuse(1, "not part of this test")
}

/// Success for each id, or a refusal in the store's words.
fn answer_changed<T>(ids: &[&str], changed: Result<T, impl ToString>) -> Answer {
    match changed {
        Ok(_) => answer(ids, ""),
        Err(error) => refuse(1, &error.to_string()),
    }
}

impl<M: Misbehaves> operations::Guest for Plugin<M> {
    fn create_conversation_group(group_name: String, conversation_ids: Vec<String>) -> Answer {
        let ids: Vec<&str> = conversation_ids.iter().map(String::as_str).collect();
        answer_changed(&ids, group_store::create_group(&group_name, &ids))
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

    fn add_conversations_to_group(group_name: String, conversation_ids: Vec<String>) -> Answer {
        let ids: Vec<&str> = conversation_ids.iter().map(String::as_str).collect();
        answer_changed(&ids, group_store::add_conversations(&group_name, &ids))
    }

    fn delete_conversations_from_group(group_name: String, conversation_ids: Vec<String>) -> Answer {
        let ids: Vec<&str> = conversation_ids.iter().map(String::as_str).collect();
        if group_name == ATTACKED {
            M::DELETE(&group_name, &ids)
        } else {
            answer_changed(&ids, group_store::remove_conversations(&group_name, &ids))
        }
    }

    fn mark_conversation(_: u64, _: bool, _: Vec<String>) -> Answer {
        not_tested()
    }

    fn set_conversation_custom_data(_: String, _: Vec<String>) -> Answer {
        not_tested()
    }

    fn get_conversation_list_by_filter(
        _: operations::ConversationFilter,
        _: u64,
        _: u32,
    ) -> Result<operations::ConversationPage, OperationError> {
        not_tested()
    }

    fn search_conversations(_: Vec<String>) -> Result<Vec<operations::ConversationSearchResult>, OperationError> {
        not_tested()
    }
}
