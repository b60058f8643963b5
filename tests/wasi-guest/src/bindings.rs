//! Generated: the WIT contract, and as much of WASI's sockets as it takes to connect.

#[allow(
    unreachable_pub,
    unsafe_code,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod generated {
    pub(crate) mod contract {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "plugin",
        });

        export!(Plugin);
        use crate::plugin::Plugin;
    }

    /// The standard library cannot connect: preview 1 of WASI has no function for it. Preview 2 does, and a plugin can
    /// import it beside what the standard library imports.
    pub(crate) mod sockets {
        wit_bindgen::generate!({
            inline: "
                package wasi:sockets@0.2.0;

                interface network {
                    resource network;
                    enum error-code {
                        unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
                        concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
                        address-not-bindable, address-in-use, remote-unreachable, connection-refused, connection-reset,
                        connection-aborted, datagram-too-large, name-unresolvable, temporary-resolver-failure,
                        permanent-resolver-failure,
                    }
                    enum ip-address-family { ipv4, ipv6 }
                    type ipv4-address = tuple<u8, u8, u8, u8>;
                    type ipv6-address = tuple<u16, u16, u16, u16, u16, u16, u16, u16>;
                    record ipv4-socket-address { port: u16, address: ipv4-address }
                    record ipv6-socket-address { port: u16, flow-info: u32, address: ipv6-address, scope-id: u32 }
                    variant ip-socket-address { ipv4(ipv4-socket-address), ipv6(ipv6-socket-address) }
                }
                interface instance-network {
                    use network.{network};
                    instance-network: func() -> network;
                }
                interface tcp {
                    use network.{network, error-code, ip-socket-address};
                    resource tcp-socket {
                        start-connect: func(
                            network: borrow<network>, remote-address: ip-socket-address,
                        ) -> result<_, error-code>;
                    }
                }
                interface tcp-create-socket {
                    use network.{error-code, ip-address-family};
                    use tcp.{tcp-socket};
                    create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
                }
                world connecting {
                    import instance-network;
                    import tcp-create-socket;
                }
            ",
        });
    }
}

pub(crate) use generated::contract::exports::im::conversation_groups::operations as exported;
pub(crate) use generated::contract::im::conversation_groups::group_store;
pub(crate) use generated::sockets::wasi::sockets;
