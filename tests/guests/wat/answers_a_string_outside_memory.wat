;; Answers a remark that begins where there is no memory.
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (local $result i32)
  (drop (call $answer (local.get $ids) (local.get $count)))
  (local.set $result (i32.load (i32.const 20)))
  (i32.store offset=12 (local.get $result) (i32.const -16))
  (i32.store offset=16 (local.get $result) (i32.const 32))
  (i32.const 16))
