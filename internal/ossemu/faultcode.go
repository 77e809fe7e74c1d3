package ossemu

import "fmt"

// faultCodes are the errors of OSS that a fault can give by their code alone.
var faultCodes = []*apiError{
	errInternal,
	refuse(502, "BadGateway", "The upstream server gave no valid answer.", ""),
	refuse(504, "GatewayTimeout", "The upstream server gave no answer in time.", ""),
	refuse(503, "ServiceUnavailable", "Please reduce your request rate.", ""),
	refuse(503, "TotalQpsLimitExceeded", "Please reduce your request rate.", "0004-00000304"),
	refuse(503, "MetaOperationQpsLimitExceeded", "Please reduce your rate of metadata requests.", ""),
	refuse(503, "ActiveRequestLimitExceeded", "Too many requests are under way.", ""),
	refuse(503, "UploadTrafficRateLimitExceeded", "Please reduce your upload rate.", ""),
	refuse(503, "DownloadTrafficRateLimitExceeded", "Please reduce your download rate.", ""),
	refuse(503, "CpuLimitExceeded", "Please reduce your request rate.", ""),
	refuse(403, "AccessDenied", "You have no right to access this object because of bucket acl.", "0003-00000001"),
	refuse(403, "SecurityTokenExpired", "The security token you provided has expired.", ""),
	refuse(403, "InvalidSecurityToken", "The security token you provided is invalid.", ""),
	refuse(403, "AccessKeyIdAndSecurityTokenNotMatch", "The access key ID and the security token do not match.", ""),
	refuse(403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist in our records.", "0002-00000902"),
	refuse(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.", "0002-00000040"),
	refuse(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "0002-00000504"),
	refuse(403, "UserDisable", "UserDisable", "0003-00000801"),
	refuse(403, "InDebt", "The account is in debt.", ""),
	errArchived,
	refuse(404, "NoSuchBucket", "The specified bucket does not exist.", "0015-00000101"),
	refuse(404, "NoSuchKey", "The specified key does not exist.", "0026-00000001"),
	refuse(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", "0042-00000311"),
	errExists,
	refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.", ""),
	refuse(400, "BadRequest", "Bad request.", ""),
	refuse(400, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.", ""),
	refuse(400, "InvalidArgument", "The argument is invalid.", ""),
	refuse(400, "InvalidPart", "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.", ""),
	errDigest, errPartOrder, errTooLarge, errTooSmall, errNotModified,
	refuse(501, "NotImplemented", "A header or parameter you provided implies functionality that is not implemented.", ""),
	refuse(203, "CallbackFailed", "The callback was not answered as it should be.", "0007-00000203"),
}

// ofStatus are the codes of a status that was given without one.
var ofStatus = map[int]string{
	0: "InternalError", 304: "NotModified", 400: "BadRequest", 403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed",
	500: "InternalError", 501: "NotImplemented", 502: "BadGateway", 503: "ServiceUnavailable", 504: "GatewayTimeout",
}

// checkError completes a fault that answers with an error.
func (f *Fault) checkError() error {
	if f.Code == "" {
		if f.Code = ofStatus[f.Status]; f.Code == "" {
			return fmt.Errorf("status=%d needs a code=... beside it", f.Status)
		}
	}
	if e := knownCode(f.Code); e != nil && f.Status == 0 {
		f.Status = e.status
	}
	if f.Status == 0 {
		return fmt.Errorf("code=%s is not among the codes that are known: give status=... beside it", f.Code)
	}
	if f.Status != 203 && (f.Status < 300 || f.Status > 599) {
		return fmt.Errorf("status=%d is no error: give 203 or one of 300 to 599", f.Status)
	}
	return nil
}

func knownCode(code string) *apiError {
	for _, e := range faultCodes {
		if e.code == code {
			return e
		}
	}
	return nil
}

// refusal is the error that f answers with.
func (f *Fault) refusal() *apiError {
	e := refuse(f.Status, f.Code, "A fault was asked for.", "")
	if known := knownCode(f.Code); known != nil {
		e.message, e.ec = known.message, known.ec
	}
	if f.Message != "" {
		e.message = f.Message
	}
	return e
}
