"""Where the SDKs live: each module fulfils one port with one library."""
