//! Names of files as MySQL and MariaDB make them of names of tables: what is no letter, digit or underscore of ASCII is
//! written as `@` and four hexadecimal digits, and some letters as `@` and two characters.

/// The letters with a code of two characters: by the first of them, the second and the letter in turn. As MariaDB 10.11
/// prints them with `CONVERT(… USING filename)`; none was ever changed.
#[expect(
    clippy::unicode_not_nfc,
    reason = "each letter is as the server prints it, and a name must come out the same"
)]
const LETTERS: &[(char, &str)] = &[
    ('0', "GÀHÁIÂJÃKÄLÅMÆNÇOÈPÉQÊRËSÌTÍUÎVÏWÐXÑYÒZÓgàháiâjãkälåmænçoèpéqêrësìtíuîvïwðxñyòzó"),
    ('1', "GÔHÕIÖKØLÙMÚNÛOÜPÝQÞRŸSĀTĂUĄVĆWĈXĊYČZĎgôhõiöjßkølùmúnûoüpýqþrÿsātăuąvćwĉxċyčzď"),
    ('2', "GĐHĒIĔJĖKĘLĚMĜNĞOĠPĢQĤRĦSĨTĪUĬVĮXĲYĴZĶgđhēiĕjėkęlěmĝnğoġpģqĥrħsĩtīuĭvįwıxĳyĵzķ"),
    ('3', "HĹIĻJĽKĿLŁMŃNŅOŇQŊRŌSŎTŐUŒVŔWŖXŘYŚZŜgĸhĺiļjľkŀlłmńnņoňpŉqŋrōsŏtőuœvŕwŗxřyśzŝ"),
    ('4', "GŞHŠIŢJŤKŦLŨMŪNŬOŮPŰQŲRŴSŶTŹUŻVŽgşhšiţjťkŧlũmūnŭoůpűqųrŵsŷtźużvžwſ"),
    ('5', "yΐ"),
    ('6', "GΆHΈIΉJΊLΑNΓOΔPΕQΖRΗTΙVΛWΜXΝYΞZΟgάhέiήjίkΰlαmβnγoδpεqζrηsθtιuκvλwμxνyξzο"),
    ('7', "HΡKΤLΥNΧOΨPΩQΪRΫSΌTΎUΏWΒXΘYϒZϓgπhρiςjσkτlυmφnχoψpωqϊrϋsόtύuώwϐxϑ"),
    ('8', "GϔHΦIΠLϚMϜNϞOϠPϢQϤRϦSϨTϪUϬVϮWΚYΣhϕiϖjϗkϙlϛmϝnϟoϡpϣqϥrϧsϩtϫuϭvϯwϰxϱyϲzϳ"),
    ('9', "LϽMϾNϿgϵh϶iϸjϻkϼ"),
    (
        '@',
        "AⒶBⒷCⒸDⒹEⒺFⒻGⒼHⒽIⒾJⒿKⓀLⓁMⓂNⓃOⓄPⓅQⓆRⓇSⓈTⓉUⓊVⓋWⓌXⓍYⓎZⓏaⓐbⓑcⓒdⓓeⓔfⓕgⓖhⓗiⓘjⓙkⓚlⓛmⓜnⓝoⓞpⓟqⓠrⓡsⓢtⓣuⓤvⓥwⓦxⓧyⓨzⓩ",
    ),
    ('A', "@Ａ"),
    ('B', "@Ｂ"),
    ('C', "@Ｃ"),
    ('D', "@Ｄ"),
    ('E', "@Ｅ"),
    ('F', "@Ｆ"),
    ('G', "0А1Ф2Ј3Ѹ4Ҧ5Ӎ6Ӵ8Մ9Ⅰ@ＧbƳcǞdȈeȰlḀmḨnṐoṸpṠqẾrỦsἈtἪvὬwᾈxᾬ"),
    ('H', "0Б1Х2Љ3Ѻ4Ҩ6Ӷ7Ա8Յ9Ⅱ@ＨaƂbƵcǠdȊeȲhƝlḂmḪnṒoṺqỀrỨsἉtἫvὭwᾉxᾭ"),
    ('I', "0В1Ц2Њ3Ѽ4Ҫ5Ӑ6Ӹ7Բ8Ն9Ⅲ@ＩaƄbƸcǢdȌlḄmḬnṔoṼqỂrỪsἊtἬvὮwᾊxᾮ"),
    ('J', "0Г1Ч2Ћ3Ѿ4Ҭ5Ӓ7Գ8Շ9Ⅳ@ＪaƇcǤdȎgƓiƮlḆmḮnṖoṾqỄrỬsἋtἭvὯwᾋxᾯ"),
    ('K', "0Д1Ш2Ќ3Ҁ4Ү5Ӕ7Դ8Ո9Ⅴ@ＫaƋcǦdȐhƟlḈmḰnṘoẀqỆrỮsἌtἮvᾺwᾌxᾸ"),
    ('L', "0Е1Щ2Ѝ4Ұ5Ӗ7Ե8Չ9Ⅵ@ＬcǨdȒiƱlḊmḲnṚoẂpẠqỈrỰsἍtἯuὙvΆwᾍxᾹ"),
    ('M', "0Ж1Ъ2Ў3Ҋ4Ҳ5Ә7Զ8Պ9Ⅶ@ＭaƑcǪdȔgƔiƲlḌmḴnṜoẄpẢqỊrỲsἎtἸvῈwᾎ"),
    ('N', "0З1Ы2Џ3Ҍ4Ҵ5Ӛ7Է8Ջ9Ⅷ@ＮaǶbƼcǬdȖlḎmḶnṞoẆpẤqỌrỴsἏtἹuὛvΈwᾏxᾼyῨ"),
    ('O', "0И1Ь2Ѡ3Ҏ4Ҷ5Ӝ7Ը8Ռ9Ⅸ@ＯaƘbǄcǮdȘeȺlḐmḸoẈpẦqỎrỶsἘtἺvῊwᾘyῩ"),
    ('P', "0Й1Э2Ѣ3Ґ4Ҹ5Ӟ6Ԁ7Թ8Ս9Ⅹ@ＰaȽbǇdȚeȻlḒmḺnṢoẊpẨqỐrỸsἙtἻuὝvΉwᾙ"),
    ('Q', "0К1Ю2Ѥ3Ғ4Һ5Ӡ6Ԃ7Ժ8Վ9Ⅺ@ＱbǊcǱdȜeȾfƁlḔmḼnṤoẌpẪqỒsἚtἼvῚwᾚ"),
    ('R', "0Л1Я2Ѧ3Ҕ4Ҽ5Ӣ6Ԅ7Ի8Տ9Ⅻ@ＲaȠbǍcǴdȞfƆgƗlḖmḾnṦoẎpẬqỔsἛtἽuὟvΊwᾛ"),
    ('S', "0М1Ѐ2Ѩ3Җ4Ҿ5Ӥ6Ԇ7Լ8Ր9Ⅼ@ＳaƠbǏcǸgƖlḘmṀnṨoẐpẮqỖsἜtἾvῸwᾜyῬ"),
    ('T', "0Н1Ё2Ѫ3Ҙ4Ӏ5Ӧ6Ԉ7Խ8Ց9Ⅽ@ＴaƢbǑcǺdȢfƉiƷlḚmṂnṪoẒpẰqỘsἝtἿvΌwᾝxῌ"),
    ('U', "0О1Ђ2Ѭ3Қ4Ӂ5Ө6Ԋ7Ծ8Ւ9Ⅾ@ＵaƤbǓcǼdȤfƊlḜmṄnṬoẔpẲqỚtὈvῪwᾞ"),
    ('V', "0П1Ѓ2Ѯ3Ҝ4Ӄ5Ӫ6Ԍ7Կ8Փ9Ⅿ@ＶaƧbǕcǾdȦhƦiɁlḞmṆnṮpẴqỜtὉvΎwᾟ"),
    ('W', "0Р1Є2Ѱ3Ҟ4Ӆ5Ӭ6Ԏ7Հ8Ք@ＷbǗcȀdȨfƏlḠmṈnṰpẶqỞtὊuὨvῺwᾨ"),
    ('X', "0С1Ѕ2Ѳ3Ҡ4Ӈ5Ӯ7Ձ8Օ@ＸbǙcȂdȪlḢmṊnṲpẸqỠtὋuὩvΏwᾩ"),
    ('Y', "0Т1І2Ѵ3Ң4Ӊ5Ӱ7Ղ@ＹaƬbǛcȄdȬfƐgƜhƩlḤmṌnṴpẺqỢsἨtὌuὪwᾪxῘyῼ"),
    ('Z', "0У1Ї2Ѷ3Ҥ4Ӌ5Ӳ7Ճ@ＺaƯbƎcȆdȮlḦmṎnṶpẼqỤsἩtὍuὫwᾫxῙ"),
    ('a', "@ａ"),
    ('b', "@ｂ"),
    ('c', "@ｃ"),
    ('d', "@ｄ"),
    ('e', "@ｅ"),
    ('f', "@ｆ"),
    ('g', "0а1ф2ј3ѹ4ҧ5ӎ6ӵ8մ9ⅰ@ｇaƀbƴcǟdȉeȱgɝhɱiʅjʙkʭlḁmḩnṑoṹpẛqếrủsἀtἢvὤwᾀxᾤyῒ"),
    ('h', "0б1х2љ3ѻ4ҩ6ӷ7ա8յ9ⅱ@ｈaƃbƶcǡdȋeȳgɞhɲiʆjʚkʮlḃmḫnṓoṻqềrứsἁtἣvὥwᾁxᾥyΐzῶ"),
    ('i', "0в1ц2њ3ѽ4ҫ5ӑ6ӹ7բ8ն9ⅲ@ｉaƅbƹcǣdȍeȴgɟhɳiʇjʛkʯlḅmḭnṕoṽqểrừsἂtἤvὦwᾂxᾦzῷ"),
    ('j', "0г1ч2ћ3ѿ4ҭ5ӓ7գ8շ9ⅳ@ｊaƈbƺcǥdȏeȵgɠhɴiʈjʜlḇmḯnṗoṿqễrửsἃtἥvὧwᾃxᾧ"),
    ('k', "0д1ш2ќ3ҁ4ү5ӕ7դ8ո9ⅴ@ｋaƌbƻcǧdȑeȶgɡhɵiʉjʝlḉmḱnṙoẁqệrữsἄtἦuὐvὰwᾄxᾰyῖ"),
    ('l', "0е1щ2ѝ4ұ5ӗ7ե8չ9ⅵ@ｌaƍcǩdȓeȷgɢhɶiʊjʞlḋmḳnṛoẃpạqỉrựsἅtἧuὑvάwᾅxᾱyῗ"),
    ('m', "0ж1ъ2ў3ҋ4ҳ5ә7զ8պ9ⅶ@ｍaƒbƾcǫdȕeȸgɣhɷiʋjʟlḍmḵnṝoẅpảqịrỳsἆtἰuὒvὲwᾆxᾲ"),
    ('n', "0з1ы2џ3ҍ4ҵ5ӛ7է8ջ9ⅷ@ｎaƕbƽcǭdȗeȹfɐgɤhɸiʌjʠlḏmḷnṟoẇpấqọrỵsἇtἱuὓvέwᾇxᾳyῠ"),
    ('o', "0и1ь2ѡ3ҏ4ҷ5ӝ7ը8ռ9ⅸ@ｏaƙbǆcǯdșfɑgɥhɹiʍjʡlḑmḹnṡoẉpầqỏrỷsἐtἲuὔvὴwᾐxᾴyῡ"),
    ('p', "0й1э2ѣ3ґ4ҹ5ӟ6ԁ7թ8ս9ⅹ@ｐaƚbǉcǰdțeȼfɒgɦhɺiʎjʢlḓmḻnṣoẋpẩqốrỹsἑtἳuὕvήwᾑyῢ"),
    ('q', "0к1ю2ѥ3ғ4һ5ӡ6ԃ7ժ8վ9ⅺ@ｑaƛbǌcǳdȝfɓgɧhɻiʏjʣlḕmḽnṥoẍpẫqồsἒtἴuὖvὶwᾒxᾶyΰ"),
    ('r', "0л1я2ѧ3ҕ4ҽ5ӣ6ԅ7ի8տ9ⅻ@ｒaƞbǎcǵdȟeȿfɔgɨhɼiʐjʤlḗmḿnṧoẏpậqổsἓtἵuὗvίwᾓxᾷyῤ"),
    ('s', "0м1ѐ2ѩ3җ4ҿ5ӥ6ԇ7լ8ր9ⅼ@ｓaơbǐcǹdȡeɀfɕgɩhɽiʑjʥlḙmṁnṩoẑpắqỗsἔtἶvὸwᾔxῂyῥ"),
    ('t', "0н1ё2ѫ3ҙ5ӧ6ԉ7խ8ց9ⅽ@ｔaƣbǒcǻdȣfɖgɪhɾiʒjʦlḛmṃnṫoẓpằqộsἕtἷvόwᾕxῃyῦ"),
    ('u', "0о1ђ2ѭ3қ4ӂ5ө6ԋ7ծ8ւ9ⅾ@ｕaƥbǔcǽdȥfɗgɫhɿiʓjʧlḝmṅnṭoẕpẳqớtὀvὺwᾖxῄyῧ"),
    ('v', "0п1ѓ2ѯ3ҝ4ӄ5ӫ6ԍ7կ8փ9ⅿ@ｖaƨbǖcǿdȧfɘgɬhʀiʔjʨlḟmṇnṯoẖpẵqờtὁvύwᾗ"),
    ('w', "0р1є2ѱ3ҟ4ӆ5ӭ6ԏ7հ8ք@ｗaƪbǘcȁdȩfəgɭhʁiʕjʩlḡmṉnṱoẗpặqởtὂuὠvὼwᾠxῆ"),
    ('x', "0с1ѕ2ѳ3ҡ4ӈ5ӯ7ձ8օ@ｘaƫbǚcȃdȫfɚgɮhʂiʖjʪlḣmṋnṳoẘpẹqỡtὃuὡvώwᾡxῇyῲ"),
    ('y', "0т1і2ѵ3ң4ӊ5ӱ7ղ@ｙaƭbǜcȅdȭfɛgɯhʃiʗjʫlḥmṍnṵoẙpẻqợsἠtὄuὢwᾢxῐyῳ"),
    ('z', "0у1ї2ѷ3ҥ4ӌ5ӳ7ճ@ｚaưbǝcȇdȯfɜgɰhʄiʘjʬlḧmṏnṷoẚpẽqụsἡtὅuὣwᾣxῑ"),
];

/// The name that a name of a file stands for; what stands for nothing is left as it is.
pub(super) fn decode(name: &str) -> String {
    let mut decoded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('@') {
        decoded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match letter(after).or_else(|| number(after)) {
            Some((c, length)) => {
                decoded.push(c);
                rest = &after[length..];
            }
            None => {
                decoded.push('@');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn letter(text: &str) -> Option<(char, usize)> {
    let mut chars = text.chars();
    let (first, second) = (chars.next()?, chars.next()?);
    let (_, letters) = LETTERS.iter().find(|(letter, _)| *letter == first)?;
    let mut pairs = letters.chars();
    while let (Some(code), Some(letter)) = (pairs.next(), pairs.next()) {
        if code == second {
            return Some((letter, first.len_utf8() + second.len_utf8()));
        }
    }
    None
}

fn number(text: &str) -> Option<(char, usize)> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_the_server_wrote_them() {
        for (file, name) in [
            ("orders", "orders"),
            ("we@0040ird@002dn@0kme", "we@ird-n\u{e4}me"),
            ("@0024x", "$x"),
            ("@4e2d", "\u{4e2d}"),
            ("@004e", "N"),
            ("@0G", "\u{c0}"),
            ("a@", "a@"),
            ("a@zz@", "a@zz@"),
            ("@d800", "@d800"),
        ] {
            assert_eq!(decode(file), name, "{file}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read(name in "(\\PC|@){0,20}") {
            let _ = decode(&name);
        }
    }
}
