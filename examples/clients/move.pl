# Move a file and wait for it: perl move.pl SOURCE DESTINATION PATH [SIZE]
#
# DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
# DATAMOVER_CA a file with the certificate authority to trust (default: the system's).
use v5.24;
use warnings;
use open qw(:std :encoding(UTF-8));
use Encode qw(decode_utf8);
use MIME::Base64 qw(encode_base64);
use RPC::XML;
use RPC::XML::Client;

$RPC::XML::ENCODING = 'utf-8';    # the default is US-ASCII
my $wait = 60;                    # seconds: the most that jobs.wait takes
my ($source, $destination, $path, $size) = map { decode_utf8($_) } @ARGV;

my $mover = RPC::XML::Client->new($ENV{DATAMOVER_URL});
$mover->useragent->timeout($wait + 30);    # longer than jobs.wait
$mover->useragent->default_header(Authorization => 'Basic ' . encode_base64($ENV{DATAMOVER_LOGIN}, ''));
$mover->useragent->ssl_opts(SSL_ca_file => $ENV{DATAMOVER_CA}) if $ENV{DATAMOVER_CA};

sub call {
    my $answer = $mover->send_request(@_);
    die "no answer: $answer\n" unless ref $answer;
    die $answer->string, "\n" if $answer->is_fault;
    return $answer->value;
}

# Without RPC::XML::string a label of digits would be sent as a number.
my %request = (source => $source, destination => $destination, path => RPC::XML::string->new($path),
    label => RPC::XML::string->new("Perl: $path"));
$request{size} = RPC::XML::i8->new($size) if $size;
my $id = call('jobs.submit', \%request)->{id};
my $job;
do {
    $job = call('jobs.wait', $id, $wait);
    printf "job %d, %s: %s, %d of %d bytes\n", $id, @$job{qw(label status bytes_done)}, $job->{bytes_total} // 0;
} until $job->{status} =~ /^(COMPLETED|PARTIAL|FAILED|CANCELLED)$/;
die $job->{error}{message}, "\n" if $job->{status} ne 'COMPLETED';
printf "%s: %d bytes, %s\n", @$_{qw(path size digest)} for @{ call('jobs.files', $id) };
