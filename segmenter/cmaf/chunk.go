package cmaf

import (
	"encoding/binary"

	"headwater/segmenter/media"
)

// Sample flags (ISO/IEC 14496-12, 8.8.3.1).
const (
	syncFlags    = 0x02000000 // sample_depends_on 2: on no other
	nonSyncFlags = 0x01010000 // sample_depends_on 1, sample_is_non_sync_sample
)

// tfhd flags (ISO/IEC 14496-12, 8.8.7.1).
const (
	tfhdDefaultDuration = 0x000008
	tfhdDefaultSize     = 0x000010
	tfhdDefaultFlags    = 0x000020
	tfhdBaseIsMoof      = 0x020000
)

// trun flags (ISO/IEC 14496-12, 8.8.8.1).
const (
	trunDataOffset = 0x000001
	trunFirstFlags = 0x000004
	trunDuration   = 0x000100
	trunSize       = 0x000200
	trunFlags      = 0x000400
	trunOffset     = 0x000800
)

const (
	mdatHeader = 8

	// mfhd, the headers of moof, traf, tfhd and trun with their fixed fields, and tfdt.
	headFixed = 8 + 16 + 8 + 16 + 20 + 20
)

// A layout says which columns of a sample table are written row by row and which once.
type layout struct {
	tfhd, trun uint32 // flags
	flags      uint32 // default sample flags
	size       int    // bytes of moof
	payload    int    // bytes of all samples
}

// plan chooses the smallest layout. first-sample-flags are always written when the rows' own are not: players look for
// them to find out whether a chunk starts with a key frame.
func plan(rows []media.SampleInfo) layout {
	l := layout{tfhd: tfhdBaseIsMoof, trun: trunDataOffset, size: headFixed}
	if len(rows) == 0 {
		return l
	}
	var duration, size, cto, mixed bool
	first, flagged := rows[0], rows[min(1, len(rows)-1)].Sync
	for i := range rows {
		r := &rows[i]
		duration = duration || r.Duration != first.Duration
		size = size || r.Size != first.Size
		cto = cto || r.CTO != 0
		mixed = mixed || i > 0 && r.Sync != flagged
		l.payload += int(r.Size)
	}
	row := 0
	if duration {
		l.trun |= trunDuration
		row += 4
	} else {
		l.tfhd |= tfhdDefaultDuration
		l.size += 4
	}
	if size {
		l.trun |= trunSize
		row += 4
	} else {
		l.tfhd |= tfhdDefaultSize
		l.size += 4
	}
	if mixed {
		l.trun |= trunFlags
		row += 4
	} else {
		l.tfhd |= tfhdDefaultFlags
		l.trun |= trunFirstFlags
		l.flags = sampleFlags(flagged)
		l.size += 8
	}
	if cto {
		l.trun |= trunOffset
		row += 4
	}
	l.size += row * len(rows)
	return l
}

func sampleFlags(sync bool) uint32 {
	if sync {
		return syncFlags
	}
	return nonSyncFlags
}

// HeadSize is the number of bytes that AppendHead appends for rows.
func HeadSize(rows []media.SampleInfo) int { return plan(rows).size + mdatHeader }

// AppendHead appends to dst what stands before the payload of one CMAF chunk (ISO/IEC 23000-19, 7.3.2.3): a moof that
// holds rows, and the header of an mdat that holds the bytes of their samples, in order and without gaps, which the caller
// writes next. seq is the mfhd's sequence number, tfdt the decode time of the first row in ticks of the track. It does not
// allocate when dst has HeadSize(rows) bytes to spare. The rows' sizes must not exceed 4 GiB in sum.
func AppendHead(dst []byte, seq uint32, trackID uint32, tfdt uint64, rows []media.SampleInfo) []byte {
	l := plan(rows)
	be := binary.BigEndian
	start := len(dst)

	dst = be.AppendUint32(dst, uint32(l.size))
	dst = append(dst, "moof"...)

	dst = be.AppendUint32(dst, 16)
	dst = append(dst, "mfhd"...)
	dst = be.AppendUint32(dst, 0)
	dst = be.AppendUint32(dst, seq)

	dst = be.AppendUint32(dst, uint32(l.size-8-16))
	dst = append(dst, "traf"...)

	tfhd := len(dst)
	dst = be.AppendUint32(dst, 0) // patched below
	dst = append(dst, "tfhd"...)
	dst = be.AppendUint32(dst, l.tfhd)
	dst = be.AppendUint32(dst, trackID)
	if l.tfhd&tfhdDefaultDuration != 0 {
		dst = be.AppendUint32(dst, rows[0].Duration)
	}
	if l.tfhd&tfhdDefaultSize != 0 {
		dst = be.AppendUint32(dst, rows[0].Size)
	}
	if l.tfhd&tfhdDefaultFlags != 0 {
		dst = be.AppendUint32(dst, l.flags)
	}
	be.PutUint32(dst[tfhd:], uint32(len(dst)-tfhd))

	dst = be.AppendUint32(dst, 20)
	dst = append(dst, "tfdt"...)
	dst = be.AppendUint32(dst, 1<<24) // version 1: 64 bits
	dst = be.AppendUint64(dst, tfdt)

	dst = be.AppendUint32(dst, uint32(l.size-(len(dst)-start)))
	dst = append(dst, "trun"...)
	dst = be.AppendUint32(dst, 1<<24|l.trun) // version 1: signed composition time offsets
	dst = be.AppendUint32(dst, uint32(len(rows)))
	dst = be.AppendUint32(dst, uint32(l.size+mdatHeader))
	if l.trun&trunFirstFlags != 0 {
		dst = be.AppendUint32(dst, sampleFlags(rows[0].Sync))
	}
	for i := range rows {
		r := &rows[i]
		if l.trun&trunDuration != 0 {
			dst = be.AppendUint32(dst, r.Duration)
		}
		if l.trun&trunSize != 0 {
			dst = be.AppendUint32(dst, r.Size)
		}
		if l.trun&trunFlags != 0 {
			dst = be.AppendUint32(dst, sampleFlags(r.Sync))
		}
		if l.trun&trunOffset != 0 {
			dst = be.AppendUint32(dst, uint32(r.CTO))
		}
	}

	dst = be.AppendUint32(dst, uint32(mdatHeader+l.payload))
	return append(dst, "mdat"...)
}
