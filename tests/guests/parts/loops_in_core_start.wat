;; Never starts, whoever calls.
(component
  (core module $m
    (func $never_returns (loop $again (br $again)))
    (start $never_returns))
  (core instance (instantiate $m)))
