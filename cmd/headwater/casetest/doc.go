// Package casetest holds no code but tests. A table of what encoders do to time (they lose connections, jump, wrap, drift, change
// their configuration, misplace key frames) is pushed through the real RTMP listener, and a checker that reads nothing but HTTP
// compares every version of every playlist with the one before it, the media with what the playlists say of it, and MPEG-TS with both.
package casetest
