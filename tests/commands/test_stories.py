"""The telephone in the terminal, as a user meets it."""

ACCOUNT, STRANGER = "123456789", "+15559870002"


def test_play_takes_a_call_from_a_pipe(shell):
    """The output is the talk: no prompt, no broken line, nothing on standard error."""
    result = shell({}, "play", "--attested", typed=f"{ACCOUNT}#\n73926418\n1\n")
    assert (result.code, result.err) == (0, "")
    assert '\n   ◂ "Your balance is 1234 dollars."\n' in result.out
    assert "keys>" not in result.out


def test_play_takes_a_folder_with_one_flow(flows, asked):
    assert asked({}, "play", flows.folder, "--from", STRANGER).out.startswith(
        f"You call +18005550100 from {STRANGER}. "
    )


def test_play_says_which_flow_it_cannot_play(flows, asked, ends):
    """No such file; or several in a folder."""
    ends(
        asked({}, "play", "nowhere.yaml"),
        1,
        "",
        "nowhere.yaml:1:1: cannot be read: No such file or directory\n",
    )
    flows.write("z.yaml", flows.text.replace("flow: bank", "flow: z").replace("+18005550100", "+18005550101"))
    result = asked({}, "play", flows.folder)
    ends(result, 1, "", f"{flows.folder}: there are 2 flows in it; name the file of one\n")
