;; A plugin of which one function is left open: `$attack`, called instead of deleting conversations from the group "Work",
;; with the group's name and the ids. All others are as in the examples in Rust.
;;
;; At 16 are answers of this plugin: 0 and a list, or 1 and a refusal. At 64 are answers of the host. From 512 on is room for
;; an attack's texts, from 1024 on for what the host hands over.
(module
  (import "im:conversation-groups/group-store@0.1.0" "list-groups" (func $list_groups (param i32)))
  (import "im:conversation-groups/group-store@0.1.0" "create-group"
    (func $create_group (param i32 i32 i32 i32 i32)))
  (import "im:conversation-groups/group-store@0.1.0" "add-conversations"
    (func $add_conversations (param i32 i32 i32 i32 i32)))
  (import "im:conversation-groups/group-store@0.1.0" "remove-conversations"
    (func $remove_conversations (param i32 i32 i32 i32 i32)))

  (memory $memory (export "memory") 2)
  (global $top (mut i32) (i32.const 1024))
  ;; Set by attacks that come when the host asks for memory or cleans up, which it does after every call.
  (global $armed (mut i32) (i32.const 0))

  (func $realloc (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $start i32)
    (local.set $start
      (i32.and
        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $start) (local.get $size)))
    (local.get $start))

  ;; A success for each id, without a remark.
  (func $answer (param $ids i32) (param $count i32) (result i32)
    (local $results i32)
    (local $at i32)
    (local.set $results
      (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $count) (i32.const 20))))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store (i32.const 20) (local.get $results))
    (i32.store (i32.const 24) (local.get $count))
    (local.set $at (local.get $results))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (i64.store (local.get $at) (i64.load (local.get $ids)))
        (local.set $at (i32.add (local.get $at) (i32.const 20)))
        (local.set $ids (i32.add (local.get $ids) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.const 16))

  (func $refuse (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store (i32.const 20) (i32.const 1))
    (i32.store (i32.const 24) (i32.const 0))
    (i32.store (i32.const 28) (i32.const 0))
    (i32.const 16))

  ;; Success, or a refusal if the host has answered so.
  (func $answer_changed (param $ids i32) (param $count i32) (result i32)
    (if (result i32) (i32.load8_u (i32.const 64))
      (then (call $refuse))
      (else (call $answer (local.get $ids) (local.get $count)))))

  (func (export "im:conversation-groups/operations@0.1.0#create-conversation-group")
    (param i32 i32 i32 i32) (result i32)
    (call $create_group (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 64))
    (call $answer_changed (local.get 2) (local.get 3)))

  (func (export "im:conversation-groups/operations@0.1.0#get-conversation-group-list") (result i32)
    (i32.store8 (i32.const 16) (i32.const 0))
    (call $list_groups (i32.const 20))
    (i32.const 16))

  (func (export "im:conversation-groups/operations@0.1.0#add-conversations-to-group")
    (param i32 i32 i32 i32) (result i32)
    (call $add_conversations (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 64))
    (call $answer_changed (local.get 2) (local.get 3)))

  (func (export "im:conversation-groups/operations@0.1.0#delete-conversations-from-group")
    (param i32 i32 i32 i32) (result i32)
    ;; The only name that begins with W.
    (if (i32.eq (i32.load8_u (local.get 0)) (i32.const 0x57))
      (then (return (call $attack (local.get 0) (local.get 1) (local.get 2) (local.get 3)))))
    (call $remove_conversations (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 64))
    (call $answer_changed (local.get 2) (local.get 3)))

  (func (export "im:conversation-groups/operations@0.1.0#delete-conversation-group")
    (param i32 i32) (result i32) (call $refuse))
  (func (export "im:conversation-groups/operations@0.1.0#rename-conversation-group")
    (param i32 i32 i32 i32) (result i32) (call $refuse))
  (func (export "im:conversation-groups/operations@0.1.0#mark-conversation")
    (param i64 i32 i32 i32) (result i32) (call $refuse))
  (func (export "im:conversation-groups/operations@0.1.0#set-conversation-custom-data")
    (param i32 i32 i32 i32) (result i32) (call $refuse))
  (func (export "im:conversation-groups/operations@0.1.0#get-conversation-list-by-filter")
    (param i32 i32 i32 i32 i32 i32 i64 i64 i32) (result i32) (call $refuse))
  (func (export "im:conversation-groups/operations@0.1.0#search-conversations")
    (param i32 i32) (result i32) (call $refuse))

  ;; Unless the attack has its own.
  (export "cabi_realloc" (func $realloc))

  ;; The attack.
)
