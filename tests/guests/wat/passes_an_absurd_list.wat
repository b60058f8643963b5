;; Passes a list with as many ids as there are numbers.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (call $remove_conversations
    (local.get $name) (local.get $name_len) (local.get $ids) (i32.const -1) (i32.const 64))
  (call $answer (local.get $ids) (local.get $count)))
