//go:build tools

package main

import _ "google.golang.org/protobuf/cmd/protoc-gen-go" // go_noop.py builds it, to generate the messages
