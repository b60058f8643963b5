//! Gives conversation after conversation as much custom data as the store takes.

#![cfg_attr(target_family = "wasm", no_std)]
#![cfg(target_family = "wasm")]

extern crate alloc;

use alloc::format;
use alloc::vec::Vec;

use test_guests::Annotation;
use test_guests::annotation_store::set_annotations;
use test_guests::answer;

test_guests::plugin!(|_, ids| {
    let custom_data = "x".repeat(4096);
    for batch in 0..20 {
        let note = |number: u32| Annotation {
            conversation_id: format!("c2c_{batch}_{number}"),
            marks: 0,
            custom_data: custom_data.clone(),
        };
        let data: Vec<Annotation> = (0..400).map(note).collect();
        set_annotations(&data.iter().collect::<Vec<_>>());
    }
    answer(ids, "")
});
