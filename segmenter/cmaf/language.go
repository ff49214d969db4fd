package cmaf

import (
	"cmp"

	"headwater/segmenter/media"
)

// packLanguage packs a BCP 47 tag into mdhd's three letters of five bits (ISO/IEC 14496-12, 8.4.2.3), which are an ISO
// 639-2/T code: "und" when the tag's primary language has none.
func packLanguage(tag string) (v uint16) {
	for _, c := range []byte(cmp.Or(media.LanguageCode(tag), "und")) {
		v = v<<5 | uint16(c-0x60)
	}
	return v
}
