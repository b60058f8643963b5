;; Takes memory without end, of four memories in turn, none of which has much.
(memory $second 1)
(memory $third 1)
(memory $fourth 1)
(func $attack (param $name i32) (param $name_len i32) (param $ids i32) (param $count i32) (result i32)
  (loop $again
    (drop (memory.grow $memory (i32.const 16)))
    (drop (memory.grow $second (i32.const 16)))
    (drop (memory.grow $third (i32.const 16)))
    (drop (memory.grow $fourth (i32.const 16)))
    (br $again))
  (unreachable))
