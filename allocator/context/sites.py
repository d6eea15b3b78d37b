"""The web sites that a visitor may come from, by medium.

The table is our own, written from general knowledge of search engines, networks and mail services. To update it, add a
word to the text of its medium and run `make figure NAME=referrers`. A word is one of
    bing.*          the label "bing" below any public suffix, and all hosts below
    ask.com         this host and all hosts below, for a label that other sites use too
    ig              not a host, but a name that campaigns use for a source
The source is the registered label (bing, ask), or what follows "=". The most specific word decides.
"""

import re

SEARCH = """
    duckduckgo.* ddg.gg=duckduckgo ddg=duckduckgo ecosia.* qwant.* startpage.* ixquick.* swisscows.* mojeek.*
    metager.* search.brave.com=brave brave kagi.com neeva.* gibiru.* presearch.* searx.* gigablast.* yippy.*
    you.com=you.com wolframalpha.* dogpile.* metacrawler.* webcrawler.* infospace.* zapmeta.* info.com=info.com
    mamma.com hotbot.* altavista.* alltheweb.* lycos.* excite.* ask.com ask.fm=ask.fm askjeeves.* teoma.*
    looksmart.* search.com=search.com mywebsearch.* mysearch.com myway.com alot.com conduit.* babylon.*
    delta-search.* sweetim.* iminent.* snap.do=snap.do incredimail.* snapdo.* searchlock.* search-results.*
    searchcompletion.* claro-search.* isearch.* alexa.* about.com=about.com blekko.* cuil.* hakia.* kosmix.*
    clusty.* vivisimo.* exalead.* technorati.* icerocket.* topsy.* entireweb.* euroseek.* crawler.com scroogle.*
    monstercrawler.* kartoo.* walhello.* searchy.* tineye.* pipl.* yasni.* 123people.* peekyou.* zoominfo.* dmoz.*
    a9.com vinden.nl ilse.nl zoeken.nl startpagina.nl talktalk.co.uk everyclick.* charter.net search.charter.net
    comcast.net=comcast xfinity.com=comcast cox.net centurylink.net windstream.net suddenlink.net frontier.com
    earthlink.* netzero.* juno.* netscape.* compuserve.* peoplepc.* mindspring.* verizon.* optimum.net
    roadrunner.com rr.com fireball.de abacho.* acoon.de suche.info t-online.de=t-online suche.t-online.de=t-online
    suche.web.de=web.de suche.gmx.net=gmx suche.freenet.de=freenet suche.1und1.de=1und1 arcor.de metager
    suchmaschine.com suchnase.de witch.de blitzsuche.* dastelefonbuch.de dasoertliche.de gelbeseiten.de allesklar.de
    search.ch=search.ch local.ch=local.ch bluewin.ch austronaut.at voila.fr lemoteur.orange.fr=orange
    lemoteur.fr=orange recherche.sfr.fr=sfr search.free.fr=free.fr aol.fr=aol dir.com=dir.com toile.com francite.*
    nomade.fr lilo.org oceanhero.* pagesjaunes.fr virgilio.* ricerca.virgilio.it=virgilio arianna.libero.it=libero
    ricerca.libero.it=libero tiscali.* paginegialle.it istella.* ozu.es hispavista.* buscador.terra.es=terra sapo.pt
    pesquisa.sapo.pt=sapo busca.uol.com.br=uol busca.bol.com.br=bol clix.pt gogo.mn in.gr=in.gr eniro.* kvasir.no
    sesam.no startsiden.no sol.no jubii.dk ofir.dk krak.dk hitta.se spray.se forum.ee=forum.ee neti.ee delfi.*
    apollo.lv search.delfi.lt=delfi leit.is finna.is szukaj.onet.pl=onet szukaj.wp.pl=wp.pl netsprint.* netsprint.pl
    szukacz.pl gooru.pl atlas.cz jyxo.* morfeo.cz najdi.si zoznam.sk azet.sk zoohoo.* szm.sk pogodak.* tango.hu
    heureka.hu vizsla24.hu kurir-info.rs aport.ru nigma.ru nova.rambler.ru=rambler go.mail.ru=mail.ru webalta.ru
    gogo.ru quintura.ru km.ru=km.ru sputnik.ru turtle.ru ngs.ru tut.by meta.ua=meta.ua online.ua=online.ua
    search.i.ua=i.ua search.ukr.net=ukr.net bigmir.net poisk.ru all.by=all.by search.qip.ru=qip maktoob.* yamli.*
    araby.* ayna.com parsijoo.* arama.com mynet.com netindir.* walla.co.il search.walla.co.il=walla sogou.* soso.com
    so.com=360 haosou.com=360 so.360.cn=360 360.cn=360 360 m.sm.cn=shenma sm.cn=shenma youdao.* zhongsou.* iask.com
    timway.* openfind.* yam.com coccoc.* zing.vn rediff.* guruji.* khoj.* onkosh.* sify.* ananzi.co.za
    aardvark.co.za anzwers.* webwombat.* sensis.* nate.com zum.com search.zum.com=zum empas.com paran.com dreamwiz.*
    hanafos.* goo.ne.jp biglobe.* nifty.* so-net.* infoseek.* livedoor.* fresheye.* jword.*
    websearch.rakuten.co.jp=rakuten websearch.excite.co.jp=excite tocc.co.jp ceek.jp luna.tv
    search.azby.fmworld.net=azby news.google.*=google googlequicksearchbox.android.google.com=google
    shopping.google.*=google froogle.*=google images.google.*=google blogsearch.google.*=google
    books.google.*=google scholar.google.*=google video.google.*=google translate.google.*=google
    cse.google.*=google googlesyndicatedsearch.com=google
"""
"""Search engines, whose hosts are searches on every page."""

PORTALS = """
    google.* bing.* yahoo.* yandex.* ya.ru=yandex baidu.* naver.* daum.net msn.* live.com=live.com aol.* qq.com
    rambler.ru mail.ru=mail.ru seznam.cz centrum.cz onet.pl wp.pl=wp.pl interia.pl o2.pl=o2.pl libero.it orange.fr
    free.fr=free.fr laposte.net sfr.fr web.de=web.de gmx.* freenet.de terra.com terra.com.br terra.es uol.com.br
    bol.com.br ig.com.br=ig.com.br globo.com sina.com.cn=sina 163.com=163 sohu.com 126.com=163 ukr.net=ukr.net
    i.ua=i.ua abv.bg neostrada.* telstra.* bigpond.* virginmedia.* btinternet.* sky.com=sky.com att.net=att
"""
"""Search engines that are portals too. Their main hosts are searches; hosts below have mail and other pages."""

SOCIAL = """
    facebook.* fb.com=facebook fb.me=facebook fb=facebook meta=facebook fbcdn.net=facebook messenger.com
    m.me=messenger orca.facebook.com=messenger msg=messenger instagram.* ig.me=instagram ig=instagram
    insta=instagram instagr.am=instagram threads.net threads.com twitter.* x.com=twitter t.co=twitter x=twitter
    tw=twitter twttr.com=twitter linkedin.* lnkd.in=linkedin li=linkedin youtube.* youtu.be=youtube yt=youtube
    youtube-nocookie.com=youtube youtube.android.google.com=youtube tiktok.* musically.zhiliaoapp.com=tiktok
    tt=tiktok douyin.* snapchat.* snap=snapchat pinterest.* pin.it=pinterest reddit.* redd.it=reddit tumblr.*
    whatsapp.* wa.me=whatsapp wa=whatsapp whats=whatsapp telegram.org telegram.me t.me=telegram tg=telegram
    telegra.ph=telegram discord.* discordapp.com=discord viber.* line.me=line kakao.* signal.org skype.* wechat.*
    weixin.* weixin.qq.com=wechat mm.tencent.com=wechat weibo.* weibo.cn t.cn=weibo qzone.* qzone.qq.com=qzone
    t.qq.com=qq renren.* douban.* zhihu.* kaixin001.* xiaohongshu.* xhslink.com=xiaohongshu bilibili.*
    tieba.baidu.com=tieba tianya.cn 51.com=51 pengyou.com vk.com vkontakte.* vk.ru=vk vk ok.ru=odnoklassniki
    odnoklassniki.* my.mail.ru=moimir moikrug.* livejournal.* dzen.ru zen.yandex.*=dzen mixi.* ameblo.jp=ameba
    ameba.jp gree.jp hatena.ne.jp b.hatena.ne.jp=hatena note.com=note.com cyworld.* band.us=band.us me2day.*
    story.kakao.com=kakao quora.* medium.com=medium.com blogger.* blogspot.* wordpress.com typepad.* substack.com
    flickr.* 500px.* imgur.* deviantart.* dribbble.* behance.* vimeo.* dailymotion.* twitch.* periscope.*
    meerkatapp.* vine.co rumble.com soundcloud.* last.fm=lastfm lastfm.* spotify.* bandcamp.com goodreads.*
    librarything.* letterboxd.* ravelry.* foursquare.* swarmapp.* 4sq.com=foursquare yelp.* tripadvisor.* meetup.*
    nextdoor.* eventful.* couchsurfing.* travellerspoint.* wayn.* xing.* viadeo.* plaxo.* ryze.com slideshare.*
    scribd.* issuu.* academia.edu researchgate.* myspace.* bebo.* hi5.* tagged.* badoo.* friendster.* orkut.*
    netlog.* multiply.* xanga.* friendfeed.* plurk.* identi.ca skyrock.* tuenti.* hyves.* studivz.* meinvz.*
    schuelervz.* lokalisten.* wer-kennt-wen.* stayfriends.* nk.pl nasza-klasa.* wykop.* grono.* fotolog.* fotka.*
    sonico.* taringa.* meneame.* ning.* gaiaonline.* habbo.* secondlife.* imvu.* piczo.* perfspot.* zorpia.*
    migente.* blackplanet.* asianavenue.* bigadda.* ibibo.* draugiem.* hospitalityclub.* geni.* myheritage.*
    ancestry.* classmates.* myyearbook.* mylife.* mocospace.* caringbridge.* care2.* cafemom.* meettheboss.*
    partyflock.* playahead.* lunarstorm.* irc-galleria.* iwiw.* xt3.* kiwibox.* stickam.* buzznet.* dailystrength.*
    epernicus.* exploroo.* faceparty.* filmaffinity.* flixster.* fubar.* gays.com goodwizz.* googleplus
    plus.google.*=googleplus plus.url.google.com=googleplus buzz.google.com=googleplus itsmy.* jaiku.* nexopia.*
    weeworld.* weread.* virb.* vampirefreaks.* wattpad.* twoo.* trombi.* copainsdavant.* mubi.* mouthshut.*
    makeoutclub.* listography.* livemocha.* fledgewing.* elftown.* digg.* stumbleupon.* mix.com=mix.com delicious.*
    del.icio.us=delicious diigo.* folkd.* scoop.it=scoopit pocket getpocket.*=pocket flipboard.* feedly.*
    instapaper.* slashdot.* fark.* metafilter.* kongregate.* newgrounds.* producthunt.*
    news.ycombinator.com=hackernews ycombinator.com hackernews hn=hackernews lobste.rs=lobsters stackoverflow.*
    stackexchange.* superuser.com serverfault.com askubuntu.com github.com answers.com wikihow.com mastodon.*
    mstdn.* fosstodon.* hachyderm.* bsky.app=bluesky bsky.social=bluesky bluesky.* bsky=bluesky gab.com
    truthsocial.* parler.* gettr.* mewe.* minds.com ello.co steemit.* peach.cool clubhouse.com
    joinclubhouse.com=clubhouse slack.* teams.microsoft.com=teams yammer.* workplace.com bitly bit.ly=bitly
    linktr.ee=linktree linktree hootsuite.* ow.ly=hootsuite buffer.com buff.ly=buffer paper.li=paperli
"""
"""Social networks, communities, messengers, and sites for the videos of users."""

EMAIL = """
    gmail.* mail.google.*=gmail inbox.google.com=gmail gm.android.google.com=gmail googlemail.*=gmail outlook.*
    outlook.live.com=outlook outlook.office.microsoft.com=outlook outlook.office.com=outlook
    outlook.office365.com=outlook office365 hotmail.*=outlook mail.live.com=outlook ymail.com=yahoo protonmail.*
    proton.me=protonmail proton=protonmail tutanota.* tuta.com=tutanota fastmail.* hushmail.* zoho.* roundcube.*
    superhuman.* hey.com=hey.com mailbox.org posteo.* icloud.* mail.com=mail.com inbox.lv inbox.com=inbox.com
    rediffmail.* lavabit.* runbox.* 10minutemail.* mailinator.* e.mail.ru=mail.ru poczta.onet.pl=onet
    poczta.wp.pl=wp.pl poczta.o2.pl=o2.pl poczta.interia.pl=interia email.seznam.cz=seznam post.cz=post.cz
    messagerie.orange.fr=orange zimbra.free.fr=free.fr navigator.gmx.net=gmx deref-gmx.net=gmx
    deref-web-02.de=web.de deref-web.de=web.de 3c.web.de=web.de thunderbird.net hanmail.* exmail.qq.com=qq wmail.*
    mymail.* mail2world.* newsletter email email=email e-mail=email e_mail=email hs_email=hubspot mailchimp.*
    list-manage.com=mailchimp campaign-archive.com=mailchimp mailchi.mp=mailchimp klaviyo.* sendgrid.* sendinblue.*
    brevo.* mailjet.* mailgun.* activecampaign.* convertkit.* beehiiv.* aweber.* getresponse.* constantcontact.*
    campaignmonitor.* createsend.* marketo.* exacttarget.* cmail19.com=campaignmonitor cmail20.com=campaignmonitor
    mailerlite.* sailthru.* iterable.* customer.io=customer.io
"""
"""Mail services, mail programs, and services that send mail in bulk."""

PAID = """
    googleadservices.*=google googlesyndication.*=google doubleclick.* adservice.google.*=google
    2mdn.net=doubleclick outbrain.* taboola.* criteo.* adroll.* adnxs.com=appnexus appnexus.* rubiconproject.*
    pubmatic.* openx.* smartadserver.* adform.* adition.* zedo.* tradedoubler.* awin1.com=awin awin.* zanox.*
    affilinet.* webgains.* shareasale.* linksynergy.* rakutenadvertising.* anrdoezrs.net=cj dpbolvw.net=cj
    jdoqocy.com=cj kqzyfj.com=cj tkqlhce.com=cj emjcd.com=cj commission-junction.* impactradius.* clickbank.*
    revcontent.* mgid.* plista.* ligatus.* teads.* sharethrough.* nativo.* mediamath.* mathtag.com=mediamath
    adsrvr.org=tradedesk amazon-adsystem.* advertising.com flashtalking.* sizmek.* serving-sys.com=sizmek eyeota.*
    casalemedia.* contextweb.* spotxchange.* yieldmo.* yieldmanager.* tribalfusion.* valueclick.* fastclick.*
    burstnet.* adtechus.* atdmt.* propellerads.* popads.* popcash.* exoclick.* juicyads.* trafficjunky.* adcash.*
    bidvertiser.* infolinks.* media.net=media.net buysellads.* carbonads.* chitika.* undertone.* adbrite.*
    steelhouse.* 33across.* quantserve.com quantcast.* lockerdome.* gravity.com dianomi.* content.ad=content.ad
    adblade.* adsonar.* kontera.* vibrantmedia.* intellitxt.* applovin.* unityads.* inmobi.* mopub.* smaato.*
    ironsource.* an.yandex.*=yandex direct.yandex.*=yandex adwords=google eclick.baidu.com=baidu
    ads.linkedin.com=linkedin ads.tiktok.com=tiktok
"""
"""Sellers of advertisements whose own hosts serve or count the click."""

CHATBOTS = """
    chatgpt.* openai.* openai.com=chatgpt chat.openai.com=chatgpt perplexity.* gemini.google.com=gemini gemini
    bard.google.com=gemini copilot.microsoft.com=copilot copilot.com edgeservices.bing.com=copilot
    copilot.cloud.microsoft=copilot m365.cloud.microsoft=copilot claude.ai claude.com anthropic.com=claude
    deepseek.* poe.com grok.com x.ai=grok mistral.ai lechat=mistral meta.ai=meta.ai phind.* character.ai pi.ai=pi.ai
    inflection.ai=pi.ai kimi.com kimi.moonshot.cn=kimi moonshot.cn=kimi doubao.* qwen.ai tongyi.aliyun.com=qwen
    chat.qwen.ai=qwen yiyan.baidu.com=ernie chat.baidu.com=ernie ernie yuanbao.tencent.com=yuanbao
    chatglm.cn=chatglm duck.ai=duck.ai iask.ai=iask.ai felo.ai andisearch.* genspark.* liner.com=liner.com
    huggingface.co=huggingface jasper.ai writesonic.* chatsonic.* notebooklm.google.com=notebooklm
    aistudio.google.com=gemini alice.yandex.*=alice blackbox.ai=blackbox.ai cohere.com replika.*
"""
"""Assistants that answer questions and link to their sources."""

SHOPS = """
    amazon.* amzn.to=amazon amzn.eu=amazon ebay.* etsy.* aliexpress.* alibaba.* taobao.* tmall.* jd.com=jd walmart.*
    target.com shopee.* lazada.* mercadolibre.* mercadolivre.*=mercadolibre flipkart.* zalando.* allegro.*
    bol.com=bol.com rakuten.* wish.com temu.* shein.* shopify.* shop.app=shopify wayfair.* bestbuy.* homedepot.*
    costco.* otto.de cdiscount.* fnac.* ozon.ru wildberries.* trendyol.* idealo.* kaufland.* overstock.* newegg.*
    asos.* ikea.* nordstrom.* macys.* kohls.* poshmark.* mercari.* depop.* vinted.* coupang.* gmarket.*
    11st.co.kr=11st stockx.*
"""
"""Shops with a host in each country, which are one source. Their medium is referral, as for any other site."""

SITES = (
    ("search", PORTALS),
    ("search", SEARCH),
    ("social", SOCIAL),
    ("email", EMAIL),
    ("chatbot", CHATBOTS),
    ("paid", PAID),
    ("referral", SHOPS),
)
"""The table by medium. A word that stands under several media has the first one."""

META = frozenset(["instagram", "messenger", "threads", "whatsapp"])
SECOND_LEVEL = re.compile(r"ac|co|com|edu|go|gob|gouv|gov|gv|in|info|ltd|me|mil|ne|net|nom|or|org|plc|sch|web")
SEARCH_LABEL = r"search\d*|suche|recherche|buscador|busca|busqueda|ricerca|szukaj|poisk"
MAIL_LABEL = (
    r"(?:web|light|w|e-?)?mail(?:er|box)?(?:[-\d].*)?|newsletters?|owa"
    r"|poczta|posta|correo|courrier|messag(?:erie|ing).*"
)
PAID_LABEL = r"ads?|adserver|adclick|yabs"
FRONT_LABEL = r"www\d*|m|..|clck|encrypted|find|sok|images?|recherche|(?!research).*(?:search|suche|busca|busqueda).*"
"""Labels that hosts have everywhere. FRONT_LABEL is for labels below a portal that still belong to its search."""

CLICK_IDS = (
    ("google", "paid_search", "gclid gbraid wbraid gclsrc"),
    ("google", "paid", "dclid"),
    ("bing", "paid_search", "msclkid"),
    ("yandex", "paid_search", "yclid"),
    ("baidu", "paid_search", "bd_vid"),
    ("naver", "paid_search", "napm"),
    ("tiktok", "paid_social", "ttclid"),
    ("twitter", "paid_social", "twclid"),
    ("linkedin", "paid_social", "li_fat_id"),
    ("snapchat", "paid_social", "sccid"),
    ("pinterest", "paid_social", "epik"),
    ("reddit", "paid_social", "rdt_cid"),
    ("quora", "paid_social", "qclid"),
    ("vk", "paid_social", "rb_clickid"),
    ("outbrain", "paid", "dicbo"),
    ("taboola", "paid", "tblci"),
    ("awin", "paid", "awc"),
    ("impactradius", "paid", "irclickid"),
    ("mailchimp", "email", "mc_cid mc_eid"),
    ("hubspot", "email", "_hsenc _hsmi"),
    ("klaviyo", "email", "_kx"),
    ("google", "search", "srsltid"),
    ("yandex", "search", "ysclid"),
    ("instagram", "social", "igshid igsh"),
    ("facebook", "social", "fbclid"),
)
"""Source, medium and parameters. Paid clicks come first; the last ones are on unpaid links too.

Meta, for instance, adds fbclid to every link that leaves its sites.
"""

PLACEHOLDERS = frozenset(("(none)", "(not set)", "(not provided)", "none", "null", "undefined", "nan", "-"))
PER_CLICK = frozenset(("cpc", "ppc"))
MEDIA = (
    ("paid_search", "paidsearch searchpaid searchads sem"),
    ("paid_social", "paidsocial socialpaid socialads paidsocialmedia socialcpc cpcsocial socialcpm cpmsocial"),
    ("paid", "paid paidmedia cpm cpv cpa cpp ad ads"),
    ("email", "email emailing mail mailing newsletter"),
    ("social", "social socialmedia socialnetwork socialnetworks socialpost organicsocial socialorganic sm"),
    ("search", "search organicsearch searchorganic seo"),
    ("chatbot", "chatbot aichat llm"),
    ("referral", "referral referrer ref link"),
)
"""The words that campaigns use for each medium, without separators such as "-" or "_"."""
