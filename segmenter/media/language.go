package media

import "strings"

// LanguageCode returns the ISO 639-2/T code of a BCP 47 tag's primary language, "" when that has none, or is "und".
func LanguageCode(tag string) string {
	primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
	switch len(primary) {
	case 2:
		if i := strings.Index(iso639, " "+primary); i >= 0 {
			return iso639[i+3 : i+6]
		}
	case 3:
		for _, c := range []byte(primary) {
			if c < 'a' || c > 'z' {
				return ""
			}
		}
		if primary != "und" {
			return primary
		}
	}
	return ""
}

// iso639 pairs each code of ISO 639-1 with that of ISO 639-2/T.
const iso639 = " aaaar ababk aeave afafr akaka amamh anarg arara asasm avava ayaym azaze" +
	" babak bebel bgbul bhbih bibis bmbam bnben bobod brbre bsbos cacat ceche chcha cocos crcre csces cuchu cvchv cycym" +
	" dadan dedeu dvdiv dzdzo eeewe elell eneng eoepo esspa etest eueus fafas ffful fifin fjfij fofao frfra fyfry" +
	" gagle gdgla glglg gngrn guguj gvglv hahau heheb hihin hohmo hrhrv hthat huhun hyhye hzher" +
	" iaina idind ieile igibo iiiii ikipk ioido isisl itita iuiku jajpn jvjav" +
	" kakat kgkon kikik kjkua kkkaz klkal kmkhm knkan kokor krkau kskas kukur kvkom kwcor kykir" +
	" lalat lbltz lglug lilim lnlin lolao ltlit lulub lvlav mgmlg mhmah mimri mkmkd mlmal mnmon mrmar msmsa mtmlt mymya" +
	" nanau nbnob ndnde nenep ngndo nlnld nnnno nonor nrnbl nvnav nynya ococi ojoji omorm orori ososs" +
	" papan pipli plpol pspus ptpor quque rmroh rnrun roron rurus rwkin" +
	" sasan scsrd sdsnd sesme sgsag sisin skslk slslv smsmo snsna sosom sqsqi srsrp ssssw stsot susun svswe swswa" +
	" tatam tetel tgtgk ththa titir tktuk tltgl tntsn toton trtur tstso tttat twtwi tytah" +
	" uguig ukukr ururd uzuzb veven vivie vovol wawln wowol xhxho yiyid yoyor zazha zhzho zuzul"
