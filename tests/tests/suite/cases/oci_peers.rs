//! What users of runc and crun have come to expect.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use super::oci::{config, pid, write};
use crate::bed::Bed;
use crate::sys;

crate::tests![a_seccomp_listener_is_told_when_the_container_is_created];

/// The container process state that comes to a listener, and what its
/// descriptor is; none if nobody has come.
fn told(listener: &UnixListener) -> Option<(Value, String)> {
    let (connection, _) = listener.accept().ok()?;
    let mut text = [0u8; 4096];
    let mut space = cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
    let message = message.expect("a message");
    let size = message.bytes;
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().expect("control messages").next() else {
        panic!("no descriptor")
    };
    let filter = sys::own(fds[0]);
    let kind = fs::read_link(format!("/proc/self/fd/{}", filter.as_raw_fd())).expect("a descriptor");
    Some((serde_json::from_slice(&text[..size]).expect("JSON"), kind.display().to_string()))
}

fn a_seccomp_listener_is_told_when_the_container_is_created(bed: &Bed) {
    let path = bed.dir.join("listener");
    let listener = UnixListener::bind(&path).expect("a socket");
    listener.set_nonblocking(true).expect("a flag");
    let mut config = config(bed, "write /up x , block");
    let mut seccomp = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "of the test",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    for no_new_privileges in [false, true] {
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["linux"]["seccomp"] = seccomp.clone();
        write(bed, &config);
        bed.oci_detached("create --bundle DIR --pid-file DIR/pid c").ok();
        let (state, kind) = told(&listener).expect("nobody has told the listener");
        assert_eq!(kind, "anon_inode:seccomp notify");
        let expected = json!({ "fds": ["seccompFd"], "metadata": "of the test", "pid": pid(bed) });
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(&state[name], value, "{name} in {state}");
        }
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(bed.oci_state_of("c")["status"], "created");
        assert!(!bed.inside("up").exists());
        bed.oci("start c").ok();
        bed.until("its program", || bed.inside("up").exists());
        assert!(told(&listener).is_none(), "it is told once");
        fs::remove_file(bed.inside("up")).expect("what it wrote");
        bed.oci("delete --force c").ok();
    }
    // What waits for its start does that under the filter.
    let denied = json!({ "names": ["accept4"], "action": "SCMP_ACT_ERRNO" });
    seccomp["syscalls"].as_array_mut().expect("an array").push(denied);
    config["linux"]["seccomp"] = seccomp;
    write(bed, &config);
    bed.oci("create --bundle DIR c").fails(1, &["linux.seccomp.syscalls", "accept4", "listener"]);
    assert!(told(&listener).is_none());
    bed.is_clean();
}
