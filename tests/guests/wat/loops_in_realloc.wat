;; Asks the host something, and never gives it the memory to put the answer in.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (global.set $armed (i32.const 1))
  (call $list_groups (i32.const 64))
  (call $answer (local.get $ids) (local.get $count)))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (if (global.get $armed) (then (loop $again (br $again))))
  (call $realloc (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
