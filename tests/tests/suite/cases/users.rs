//! The ids a program runs with, where the image has odd users.

use std::fs;

use crate::bed::Bed;

crate::tests![digits_are_an_id_whatever_the_image_says, root_is_a_user_of_the_image_like_others];

fn digits_are_an_id_whatever_the_image_says(bed: &Bed) {
    // Users and groups whose names are the ids of others.
    fs::write(bed.inside("etc/passwd"), "1000:x:0:0:root:/root:/probe\nweb:x:1000:7:web:/srv:/probe\n")
        .expect("passwd");
    fs::write(bed.inside("etc/group"), "1000:x:0:\nwheel:x:0:1000\nadm:x:4:web\n").expect("group");
    if !bed.mode.has_ids() {
        // Only 0 exists.
        bed.podlet("run --rm -u 1000 --rootfs ROOT /probe ids").fails(125, &["mapping"]);
        bed.podlet("run --rm -u 0:1000 --rootfs ROOT /probe ids").fails(125, &["mapping"]);
        return;
    }
    bed.podlet("run --name w -d --rootfs ROOT /probe block").ok();
    for run in ["run --rm -u USER --rootfs ROOT", "exec -u USER w"] {
        for (user, ids) in [
            ("1000", "Uid: 1000 1000 1000 1000\nGid: 7 7 7 7\nGroups: 4\n"),
            ("1000:1000", "Uid: 1000 1000 1000 1000\nGid: 1000 1000 1000 1000\nGroups:\n"),
            ("web:1000", "Uid: 1000 1000 1000 1000\nGid: 1000 1000 1000 1000\nGroups:\n"),
        ] {
            let said = bed.podlet(&format!("{} /probe ids , env", run.replace("USER", user))).ok();
            assert!(said.contains(ids) && said.contains("HOME=/srv"), "{user}: {said}");
        }
    }
}

fn root_is_a_user_of_the_image_like_others(bed: &Bed) {
    fs::write(bed.inside("etc/passwd"), "root:x:0:0:root:/srv:/probe\n").expect("passwd");
    fs::write(bed.inside("etc/group"), "root:x:0:\nadm:x:4:root\ndisk:x:6:root,web\n").expect("group");
    let groups = if bed.mode.has_ids() { "Groups: 4 6\n" } else { "Groups:" };
    bed.podlet("run --name w -d --rootfs ROOT /probe block").ok();
    for line in [
        "run --rm --rootfs ROOT",
        "run --rm -u 0 --rootfs ROOT",
        "run --rm -u root --rootfs ROOT",
        "exec w",
        "exec -u 0 w",
        "exec -u root w",
    ] {
        let said = bed.podlet(&format!("{line} /probe ids , env")).ok();
        assert!(said.contains("Uid: 0 0 0 0\nGid: 0 0 0 0\n"), "{line}: {said}");
        assert!(said.contains(groups) && said.contains("HOME=/srv\n"), "{line}: {said}");
    }
    // A user that is asked for with a group has that one alone.
    assert!(bed.podlet("exec -u root:root w /probe ids").ok().contains("Groups:\n") || !bed.mode.has_ids());
    // An image without files has a root all the same.
    fs::remove_file(bed.inside("etc/passwd")).expect("removal");
    fs::remove_file(bed.inside("etc/group")).expect("removal");
    for user in ["0", "root", "root:root"] {
        let said = bed.podlet(&format!("run --rm -u {user} --rootfs ROOT /probe ids , env")).ok();
        assert!(said.contains("Uid: 0 0 0 0\nGid: 0 0 0 0\n") && said.contains("HOME=/\n"), "{said}");
    }
}
